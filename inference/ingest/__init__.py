"""The telemetry service: MQTT to ``raw/generation``, acknowledged only after the rows are committed.

session    one MQTT session: a thread that reads, and acknowledges what was committed
inbox      the messages between the two threads
committer  a thread: messages -> rows -> the lake -> acknowledgements
held       refused messages on their way to the quarantine, bounded
refresher  a child process: rows -> hours -> snapshots, for the parks that something came for
refresh    what runs in that process
poller     REST sources, asked in that process as well
service    all of it together; app: health and metrics
"""
