"""All events of all streams in memory, so that one that ended early can be gone on with; for both SDKs."""

from mcp.server.streamable_http import EventMessage, EventStore


class Events(EventStore):
    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return f"event-{len(self.events)}"

    async def replay_events_after(self, last_event_id, send_callback):
        begun = int(last_event_id.removeprefix("event-"))
        stream = self.events[begun - 1][0]
        for at, (of, message) in enumerate(self.events[begun:], begun + 1):
            if of == stream and message is not None:
                await send_callback(EventMessage(message, f"event-{at}"))
        return stream
