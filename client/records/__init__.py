"""What a hospital writes down of everything that it lets out or refuses, so that nobody can change it unnoticed.

lines.py      one line of the log, and the chain that binds the lines
audit_log.py  opening, appending, recovering after a crash
verify.py     whether a log is the one that was written
"""
