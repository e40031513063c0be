"""The search: a ledger of trials over Optuna, schedulers, and two executors, one in process and one on Ray Tune."""
