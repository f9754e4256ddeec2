# What overlays and secrets are filled with.
output "cluster" {
  description = "aws eks update-kubeconfig --name ..."
  value       = aws_eks_cluster.main.name
}

output "bucket" {
  description = "PVF_S3_BUCKET; PVF_LAKE_URI is s3://<bucket>/lake"
  value       = aws_s3_bucket.main.bucket
}

output "s3_endpoint" {
  description = "PVF_S3_ENDPOINT"
  value       = "https://s3.${var.region}.amazonaws.com"
}

output "backup_bucket" {
  description = "Where `pvf backup create` writes to"
  value       = aws_s3_bucket.backup.bucket
}

output "database_address" {
  description = "Host and port of PVF_POSTGRES_DSN"
  value       = aws_db_instance.main.endpoint
}

output "database_admin_secret" {
  description = "The administrator's password, in Secrets Manager"
  value       = aws_db_instance.main.master_user_secret[0].secret_arn
}

output "registries" {
  description = "Image -> repository, for kustomize's `images:`"
  value       = { for name, repository in aws_ecr_repository.image : name => repository.repository_url }
}

output "roles" {
  description = "Value of eks.amazonaws.com/role-arn of each service account"
  value       = { for name, role in aws_iam_role.account : name => role.arn }
}

output "prometheus" {
  description = "Remote write to <this>api/v1/remote_write"
  value       = aws_prometheus_workspace.main.prometheus_endpoint
}

output "grafana" {
  description = "Address of Grafana"
  value       = aws_grafana_workspace.main.endpoint
}

output "alerts_topic" {
  description = "For Alertmanager's sns_configs"
  value       = aws_sns_topic.alerts.arn
}
