"""The site's durable account of privacy: what every data set has spent, charged before anything runs.

dataset.py   which patients a data set is made of, without naming them
spending.py  charges and budgets, and the epsilon that they compose to
chain.py     entries bound to each other by hashes
files.py     the SQLite file, its lock, and durable writing
witness.py   the newest head, kept a second time in another folder
state.py     what the entries add up to
ledger.py    opening, charging, settling
verify.py    whether the file is the one that was written
"""
