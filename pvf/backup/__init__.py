"""Backup and restore of what the platform stores: the bucket, a lake in a folder, the databases."""
