"""Which step count may I ship? Quality, faithfulness, variety and speed of every candidate, measured side by side."""
