"""Flower's runtime interface as a SuperNode serves it, in the test's own process: messages wait in it for a relay."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from flwr.app import Context, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.main import create_app
from flwr.supernode.nodestate import NodeStateFactory

from more_model.exchange import FACTS_RECORD

BUNDLE = b"PK\x03\x04 as good as a bundle: nobody opens it"
DIGEST = hashlib.sha256(BUNDLE).hexdigest()
SECRET = bytes(range(32))
RUN, NODE, WAIT_S = 7, 11, 20.0


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"within {WAIT_S:g} s: {what}"
        time.sleep(0.02)


@dataclass
class SuperNode:
    """Flower's runtime interface over a node's state, as a SuperNode serves it; it may be gone and come back."""

    port: int
    states: NodeStateFactory = field(default_factory=lambda: NodeStateFactory(ObjectStoreFactory()))
    server: uvicorn.Server | None = None

    @property
    def state(self) -> Any:
        return self.states.state()

    def start(self) -> None:
        self.state.set_node_id(NODE)
        app = create_app(self.states, SECRET)
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        eventually(lambda: self.server is not None and self.server.started, "the runtime interface listens")

    def stop(self) -> None:
        if self.server is not None:
            self.server.should_exit = True
            self.thread.join(WAIT_S)
        self.server = None

    def forget(self) -> None:
        """As a SuperNode that was killed and started again."""
        self.stop()
        self.states = NodeStateFactory(ObjectStoreFactory())
        self.start()

    def ask(self, kind: str, content: RecordDict, ttl_s: float = 60.0, *, damaged: bool = False) -> str:
        """What a SuperNode does with a message that it has fetched; the message's id."""
        state, store = self.state, self.state.object_store
        run = Run.create_empty(RUN)
        run.fab_hash = DIGEST
        state.store_run(run)
        state.store_fab(Fab(DIGEST, BUNDLE, {}))
        state.set_run_series_context(run.series_id, Context(RUN, NODE, {}, RecordDict(), {}))
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN, 1
        message = Message(content, dst_node_id=NODE, message_type=kind, ttl=ttl_s)
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = get_all_nested_objects(message)
        store.preregister(RUN, get_object_tree(message))
        for name, each in objects.items():
            store.put(name, each.deflate())
        if damaged:
            for name in objects:
                store.store[name].content = b"Message 0 x"
        state.create_task(task_type="flwr-clientapp", run_id=RUN, fab_hash=DIGEST)
        state.store_message(remove_content_from_message(message))
        return str(message.metadata.message_id)

    def reply(self) -> Message:
        """The next answer, whole."""
        found: list[Message] = []
        eventually(lambda: bool(found.extend(self.state.get_messages_legacy(is_reply=True)) or found), "an answer")
        (message,) = found
        tree = self.state.object_store.get_object_tree(message.metadata.message_id)
        names = [each.object_id for each in iterate_object_tree(tree)]
        eventually(lambda: all(self.state.object_store.get(name) for name in names), "its content")
        contents = {name: self.state.object_store.get(name) for name in names}
        whole = inflate_object_from_contents(message.metadata.message_id, contents)
        assert isinstance(whole, Message)
        assert whole.metadata.reply_to_message_id == message.metadata.reply_to_message_id
        return whole

    def refusal(self) -> object:
        return self.reply().content[FACTS_RECORD]["refusal"]
