from pathlib import Path
from rich.console import Console
from simulation.report import write_report, ReportDetails
def test_dev(summary, details):
    write_report(Path("/tmp/report/out"), summary, details)
    s={**summary,"synthetic":True,"status":"partial","text_kind":"mixed"}
    write_report(Path("/tmp/report/out2"), s, details)
    for a in ("centralized","federated","random_encoder"):
        v=summary["arms"][a]; v["per_label"]={"Pneumonia":v["per_label"]["Pneumonia"]}; del v["linear_probe"]; v["retrieval"]={}
    summary["arms"]["local"]["mean"].pop("per_label")
    summary["text_kind"]="label prompts"; summary["name"]="NIH and Guangzhou"
    write_report(Path("/tmp/report/out3"), summary, ReportDetails({k:{"Pneumonia":v["Pneumonia"]} for k,v in details.rocs.items()},details.learning,[]))
