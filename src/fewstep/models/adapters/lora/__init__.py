"""LoRA and its relatives: adapters that change a network's layers, in any of the spellings."""
