"""Everything of Flower that is touched although it is not public, by name: an upgrade that moves one fails here.

A name in the `__all__` of a public module needs no entry; everything else stands in `NOT_PUBLIC` with its reason.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOMS = ("more_model", "privacy", "client", "server", "simulation")
MINOR = "1.41"
PUBLIC_MODULES = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.simulation"}

NOT_PUBLIC = {
    "flwr.supercore.task_identity.TaskIdentity": "Flower stamps its ids on each Message built outside its own runtime",
    "flwr.supercore.run.Run": "a Grid must answer which run it belongs to",
    "flwr.common.serde.message_from_proto": "the relay answers also a message whose content cannot be read",
    "flwr.supercore.inflatable.inflatable_protobuf_utils.make_pull_object_fn_protobuf": "the relay pulls a message",
    "flwr.supercore.inflatable.inflatable_utils.pull_and_inflate_object_from_tree": "the relay pulls a message",
    "flwr.common.constant.ErrorCode": "Flower's number for an answer that did not come whole",
    "flwr.app.message.make_message": "a refusal stands in the place of an answer that cannot be read",
    "flwr.supercore.inflatable.inflatable_object.iterate_object_tree": "answers are taken part by part, within a bound",
    "flwr.supercore.inflatable.inflatable_utils.ObjectUnavailableError": "a part that is still to come",
    "flwr.supercore.inflatable.inflatable_utils.ObjectPullError": "a part that will not come",
    "flwr.supercore.inflatable.inflatable_utils.inflate_object_from_contents": "an answer is put together",
    "flwr.supercore.retry.RetryInvoker": "a call of the relay is tried again for a bounded time, ending no process",
    "flwr.supercore.retry.exponential": "the waits in between",
    "flwr.supernode.runtime.run_clientapp.push_message": "the relay hands a reply over as Flower's own process does",
    **{
        f"flwr.proto.{name}": "the relay takes the place of Flower's starter at a hospital"
        for name in (
            "message_pb2.ConfirmMessageReceivedRequest",
            "node_pb2.Node",
            "runtime_pb2.AcquireTaskRequest",
            "runtime_pb2.PullAppMessagesRequest",
            "runtime_pb2.PullTaskInputRequest",
            "runtime_pb2.PushTaskOutputRequest",
            "runtime_pb2.SendTaskHeartbeatRequest",
        )
    },
    "flwr.proto.fleet_pb2.DeactivateNodeRequest": "the connection of a SuperNode that was killed is ended",
    "flwr.supernode.fleet_http_client.FleetHttpClient": "the connection of a SuperNode that was killed is ended",
    "flwr.supernode.node_auth_http_interceptor.NodeAuthHttpInterceptor": "proves to hold the key of that connection",
    "flwr.supercore.runtime.RuntimeHttpClient": "how programs of ours take tasks, in the place of Flower's starter",
    "flwr.supercore.interceptors.SuperExecAuthHttpInterceptor": "proves to hold the secret that tasks are given for",
    "flwr.supercore.interceptors.RuntimeTokenHttpInterceptor": "proves to hold a task",
    "flwr.supercore.interceptors.RuntimeVersionHttpInterceptor": "another minor release is refused, not misunderstood",
    "flwr.superlink.grid.HttpGrid": "the coordinator's run sends its messages itself, in the place of a ServerApp",
    "flwr.proto.fab_pb2.Fab": "a run is begun with a bundle",
    "flwr.common.serde.run_from_proto": "the grid must know its run",
    "flwr.cli.build.build_fab_from_files": "the bundle is made from what this package says, not from a folder",
    **{
        f"flwr.proto.control_pb2.{name}": "keys are registered and revoked, and runs begun, while the SuperLink runs"
        for call in ("ListNodes", "RegisterNode", "UnregisterNode", "ListRuns", "StartRun", "StopRun")
        for name in (f"{call}Request", f"{call}Response")
    },
}
# Entries of an object's `__dict__` that are written because there is no public way.
FIELDS = {"_message_id": "Flower's link, which the in-process grid stands in for, numbers each message it carries"}

GRID_FIELDS = {"_retry_invoker": "Flower's own retries wait for ever, and end the process where a task is lost"}

# What the adapters call, with the parameters they pass: a renamed parameter would only show in a long run.
SIGNATURES = {
    "flwr.app.Message": {"content", "dst_node_id", "message_type", "ttl", "group_id", "reply_to"},
    "flwr.serverapp.Grid.send_and_receive": {"messages", "timeout"},
    "flwr.supercore.run.Run.create_empty": {"run_id"},
    "flwr.app.Context": {"run_id", "node_id", "node_config", "state", "run_config"},
    "flwr.supercore.inflatable.inflatable_utils.pull_and_inflate_object_from_tree": {
        "object_tree", "pull_object_fn", "confirm_object_received_fn", "return_type",
    },
    "flwr.supercore.retry.exponential": {"base_delay", "max_delay"},
    "flwr.supercore.retry.RetryInvoker": {
        "wait_gen_factory", "recoverable_exceptions", "max_tries", "max_time", "should_giveup",
    },
    "flwr.supercore.runtime.RuntimeHttpClient.from_server_address": {
        "server_address", "insecure", "root_certificates", "interceptors", "retry_invoker",
    },
    "flwr.supernode.fleet_http_client.FleetHttpClient.from_server_address": {
        "server_address", "insecure", "root_certificates", "interceptors",
    },
    "flwr.supernode.node_auth_http_interceptor.NodeAuthHttpInterceptor": {"private_key", "public_key"},
    "flwr.supernode.runtime.run_clientapp.push_message": {"client", "message", "context"},
    "flwr.superlink.grid.HttpGrid": {"runtime_api_address", "root_certificates", "token"},
    "flwr.app.message.make_message": {"metadata", "content", "error"},
    "flwr.supercore.inflatable.inflatable_utils.inflate_object_from_contents": {"object_id", "object_contents"},
    "flwr.cli.build.build_fab_from_files": {"files"},
}  # fmt: skip
ATTRIBUTES = {
    "flwr.app.Metadata": ("message_id", "reply_to_message_id", "src_node_id", "dst_node_id", "group_id", "ttl"),
    "flwr.app.Error": ("code",),
    "flwr.app.Array": ("numpy",),
    "flwr.app.RecordDict": ("config_records",),
    "flwr.app.MessageType": ("TRAIN", "QUERY"),
    "flwr.clientapp.ClientApp": ("train", "query"),
    "flwr.supercore.runtime.RuntimeHttpClient": (
        "AcquireTask", "SendTaskHeartbeat", "PullTaskInput", "PushTaskOutput", "PullMessages", "PushMessages",
        "PullObject", "PushObject", "ConfirmMessageReceived", "close",
    ),
    "flwr.supernode.fleet_http_client.FleetHttpClient": ("DeactivateNode", "close"),
    "flwr.superlink.grid.HttpGrid": ("get_nodes", "push_messages", "pull_messages", "set_run", "close"),
    "flwr.serverapp.Grid": ("get_node_ids", "push_messages", "pull_messages", "create_message", "set_run", "run"),
}  # fmt: skip


def adapter_files(checkout: Path) -> list[Path]:
    return sorted(path for room in ROOMS for path in (checkout / room).glob("flower*.py"))


def imported(checkout: Path) -> dict[str, str]:
    """Dotted name of everything imported from Flower -> the file that does."""
    found = {}
    for path in adapter_files(checkout):
        where = str(path.relative_to(checkout))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flwr":
                found.update({f"{node.module}.{alias.name}": where for alias in node.names})
            elif isinstance(node, ast.Import):
                found.update({alias.name: where for alias in node.names if alias.name.split(".")[0] == "flwr"})
    return found


def is_public(name: str) -> bool:
    module, _, symbol = name.rpartition(".")
    return module in PUBLIC_MODULES and symbol in importlib.import_module(module).__all__


def resolve(name: str) -> object:
    """The object behind a dotted name: the longest importable module, then its attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_flower_is_the_minor_release_that_was_read() -> None:
    installed = version("flwr")
    assert installed.startswith(f"{MINOR}."), f"flwr {installed}: read the symbols below again, then change MINOR"


def test_the_project_file_pins_the_same_minor_release(checkout: Path) -> None:
    major, minor = MINOR.split(".")
    assert f'"flwr[simulation]>={MINOR},<{major}.{int(minor) + 1}"' in (checkout / "pyproject.toml").read_text("utf-8")


def test_adapter_files_exist(checkout: Path) -> None:
    assert {path.parent.name for path in adapter_files(checkout)} >= {"client", "server"}


def test_everything_imported_exists(checkout: Path) -> None:
    for name, where in imported(checkout).items():
        try:
            resolve(name)
        except (ModuleNotFoundError, AttributeError):
            pytest.fail(f"{where} imports {name}, which flwr {version('flwr')} does not have")


def test_whatever_is_not_public_is_named_here(checkout: Path) -> None:
    unnamed = {name: where for name, where in imported(checkout).items() if not is_public(name)}
    assert set(unnamed) == set(NOT_PUBLIC), "NOT_PUBLIC must name exactly what is imported and not public"


def test_every_symbol_that_is_not_public_is_still_there() -> None:
    for name, reason in NOT_PUBLIC.items():
        try:
            resolve(name)
        except (ModuleNotFoundError, AttributeError):
            pytest.fail(f"flwr {version('flwr')} has no {name} any more; it was used because {reason}")


def test_no_private_attribute_of_a_foreign_object_is_touched(checkout: Path) -> None:
    touched = [
        f"{path.relative_to(checkout)}:{node.lineno} {ast.unparse(node)}"
        for path in adapter_files(checkout)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    ]
    assert not touched, "\n".join(touched)


def test_fields_written_past_the_public_interface_are_named_here_and_exist(checkout: Path) -> None:
    written = {
        ast.unparse(node.slice).strip("'")
        for path in adapter_files(checkout)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "__dict__"
    }
    assert written == {*FIELDS, *GRID_FIELDS}
    from flwr.superlink.grid import HttpGrid

    assert GRID_FIELDS.keys() <= HttpGrid("127.0.0.1:9", insecure=True, token="any").__dict__.keys()
    # A stamped identity is what Flower's runtime sets before an app runs; without one no Message can be built.
    code = (
        "from flwr.supercore.task_identity import TaskIdentity as T; T.task_id, T.run_id, T.node_id = 1, 1, 1\n"
        "assert {'task_id', 'run_id', 'node_id'} <= set(dir(type(T))), dir(type(T))\n"
        "from flwr.app import Message, RecordDict\n"
        "metadata = Message(RecordDict(), dst_node_id=2, message_type='train').metadata\n"
        f"for field in {sorted(FIELDS)!r}: assert field in metadata.__dict__, (field, sorted(metadata.__dict__))\n"
        "metadata.__dict__['_message_id'] = 'seven'; assert metadata.message_id == 'seven'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "parameters"), SIGNATURES.items())
def test_callables_take_the_parameters_that_are_passed(name: str, parameters: set[str]) -> None:
    found = resolve(name)
    accepted = inspect.signature(found).parameters  # type: ignore[arg-type]
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    assert takes_any or parameters <= set(accepted), f"{name} takes {sorted(accepted)}"


@pytest.mark.parametrize(("name", "attributes"), ATTRIBUTES.items())
def test_objects_have_the_attributes_that_are_read(name: str, attributes: tuple[str, ...]) -> None:
    missing = [attribute for attribute in attributes if not hasattr(resolve(name), attribute)]
    assert not missing, f"{name} lacks {missing}"


def test_the_in_process_grid_reports_a_raising_app_as_flower_does() -> None:
    flower = resolve("flwr.common.constant.ErrorCode.CLIENT_APP_RAISED_EXCEPTION")
    assert resolve("simulation.flower_inprocess._APP_RAISED") == flower


def test_the_relay_names_tasks_and_their_end_as_flower_does() -> None:
    assert resolve("client.flower_runtime.CLIENT_APP") == resolve("flwr.supercore.constant.TaskType.CLIENT_APP")
    assert resolve("client.flower_runtime._COMPLETED") == resolve("flwr.common.constant.SubStatus.COMPLETED")
    assert resolve("client.flower_runtime._SIGNED") == resolve(
        "flwr.supercore.superexec.run_superexec._SUPEREXEC_AUTH_METHODS"
    )
    patience_s = resolve("flwr.common.constant.HEARTBEAT_PATIENCE") * resolve(
        "flwr.common.constant.HEARTBEAT_DEFAULT_INTERVAL"
    )  # type: ignore[operator]
    assert (
        resolve("client.flower_runtime._HEARTBEAT_S")
        < patience_s / 3
        < patience_s
        < resolve("client.flower_runtime._RETRY_S")
    )  # type: ignore[operator]


def test_a_grid_says_when_a_node_connected() -> None:
    from flwr.proto.node_pb2 import NodeInfo

    assert {"name", "node_id", "last_activated_at"} <= {field.name for field in NodeInfo.DESCRIPTOR.fields}
