"""The client of a Kubeflow Pipelines API server: upload, submit, schedule, cancel; safe to repeat."""
