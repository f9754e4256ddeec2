variable "region" {
  description = "Where everything stands."
  type        = string
  default     = "eu-central-1"
}

variable "environment" {
  description = "staging or prod: names everything, and decides what may be deleted."
  type        = string

  validation {
    condition     = contains(["staging", "prod"], var.environment)
    error_message = "environment is staging or prod."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the network: a /16."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && endswith(var.vpc_cidr, "/16")
    error_message = "vpc_cidr is a /16, e.g. 10.40.0.0/16."
  }
}

variable "api_access_cidrs" {
  description = "Who reaches the cluster's API from outside; empty: only from inside the network."
  type        = list(string)
  default     = []
}

variable "cluster_version" {
  description = "Kubernetes, as EKS names it."
  type        = string
  default     = "1.34"
}

variable "serving_nodes" {
  description = "Nodes of serving and services: always on, in three zones."
  type        = object({ type = string, min = number, max = number })
  default     = { type = "m7i.large", min = 3, max = 9 }
}

variable "training_nodes" {
  description = "Spot nodes of pipelines; none when nothing runs."
  type        = object({ types = list(string), max = number })
  default     = { types = ["m7i.2xlarge", "m6i.2xlarge", "m7a.2xlarge"], max = 6 }
}

variable "database_class" {
  description = "Instance class of Postgres (prediction log, promotions, MLflow)."
  type        = string
  default     = "db.m7g.large"
}

variable "database_storage_gb" {
  description = "Storage of Postgres at the start, and what it may grow to."
  type        = object({ start = number, max = number })
  default     = { start = 100, max = 1000 }
}

variable "object_lock_days" {
  description = "For how long no version of an object in the backup bucket can be deleted, by anybody."
  type        = number
  default     = 35

  validation {
    condition     = var.object_lock_days >= 1
    error_message = "object_lock_days is at least 1."
  }
}

variable "alert_email" {
  description = "Who hears of alerts until Slack and PagerDuty are set up in Alertmanager; empty: nobody by e-mail."
  type        = string
  default     = ""
}

variable "namespace" {
  description = "Of the platform in the cluster: the roles of its service accounts are bound to it."
  type        = string
  default     = "pvforecast"
}
