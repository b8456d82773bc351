"""The starter's own parts in torch alone: the same numbers as diffusers' and transformers' to the bit, under the same
names in state dicts, without their imports, which take far longer than the first picture.
"""
