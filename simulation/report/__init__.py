"""What a run shows to people: `report.html` for a clinician, the AUROC table on the terminal.

Both read the same ``summary.json``; neither computes a result of its own, so page and file cannot disagree.
"""

from __future__ import annotations

from simulation.report.details import Example, LearningPoint, ReportDetails
from simulation.report.page import write_report
from simulation.report.table import print_table

__all__ = ["Example", "LearningPoint", "ReportDetails", "print_table", "write_report"]
