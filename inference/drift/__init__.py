"""The drift job: does a park still behave as it did when its frozen reference was made?

Runs once a day in an environment of its own (requirements/drift.txt), because Alibi Detect 0.11.4 cannot share one
with KServe. It reads the lake, keeps no state but the references, and tells the world by CloudEvents.
"""
