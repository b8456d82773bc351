"""One prepared run for an hour-priced GPU: what is right there and how fast it is, in stages, the most valuable first.

    make gpu-wheels                        (here, where there is a package index: fills .wheels/)
    make gpu OUTPUT=DIR [BUDGET=SECONDS]   (there: python3 with PyTorch, the tracked tree, .wheels/; no index)
    make gpu DEVICE=cpu TINY=1             (a dry run anywhere)

`packages` says what a machine must have and what the wheels bring, `stages` what is measured and for how long,
`runner` keeps the limits and writes results.json, `stage` is a stage's process. Everything goes to DIR/results.json,
rewritten whole whenever something was measured, and DIR/log.txt.
"""
