"""The rows of the evaluation tables: a name, and the variables that it sets beyond those of the seed's method."""

SEEDS_METHOD = {
    "EVAL_MODE": "windows", "TTT_BATCH_WINDOWS": "0", "TTT_OPTIMISER": "sgd", "TTT_LR": "0.01",
    "EVAL_CACHE_ORDERS": "",
}  # fmt: skip
ORDERS = {"EVAL_CACHE_ORDERS": "1,2,3,4,6"}
MUON = {"TTT_OPTIMISER": "muon", "TTT_LR": "0.003", "TTT_BATCH_WINDOWS": "4"}
ROWS = {
    "seed's method": {},
    "frozen": {"TTT_EPOCHS": "0"},
    "1 epoch": {"TTT_EPOCHS": "1"},
    "3 epochs": {"TTT_EPOCHS": "3"},
    "frozen, overlap": {"TTT_EPOCHS": "0", "EVAL_MODE": "overlap"},
    "frozen, EVAL_TEMP 0.9": {"TTT_EPOCHS": "0", "EVAL_TEMP": "0.9"},
    "overlap": {"EVAL_MODE": "overlap"},
    "lr x3": {"TTT_LR": "0.03"},
    "lr x10": {"TTT_LR": "0.1"},
    "4 windows a step": {"TTT_BATCH_WINDOWS": "4"},
    "chunk of 4 windows": {"TTT_CHUNK_WINDOWS": "4"},
    "momentum 0": {"TTT_MOMENTUM": "0", "TTT_LR": "0.1"},
    "Muon 0.001": {"TTT_OPTIMISER": "muon", "TTT_LR": "0.001"},
    "Muon 0.003": {"TTT_OPTIMISER": "muon", "TTT_LR": "0.003"},
    "frozen, cache": {"TTT_EPOCHS": "0"} | ORDERS,
    "cache": ORDERS,
    "cache of orders 2 and 4": {"EVAL_CACHE_ORDERS": "2,4"},
    "4 windows a step, overlap": {"TTT_BATCH_WINDOWS": "4", "EVAL_MODE": "overlap"},
    "4 windows a step, overlap, cache (recipe best)": {"TTT_BATCH_WINDOWS": "4", "EVAL_MODE": "overlap"} | ORDERS,
    "Muon 0.003, 4 windows a step": MUON,
    "Muon 0.003, 4 windows a step, cache (smoke)": MUON | ORDERS,
    "Muon 0.003, 4 windows a step, overlap, cache": MUON | ORDERS | {"EVAL_MODE": "overlap"},
    "windows twice as long": {"EVAL_SEQ_LEN": "512", "TTT_CHUNK_WINDOWS": "8", "EVAL_OVERLAP": "0"},
}
