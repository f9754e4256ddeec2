# Names only: values are put in by hand or by rotation, never by Terraform, whose state would keep them.
locals {
  secrets = {
    postgres     = "dsn, mlflow_dsn: postgresql://...?sslmode=verify-full"
    s3           = "access_key, secret_key of a user of the bucket"
    backup       = "access_key, secret_key; both empty: the role of the account `backup`"
    gateway      = "api keys of clients"
    trigger      = "token of the retrain trigger"
    mqtt         = "user, password of the broker"
    open-meteo   = "api key; may be empty"
    alertmanager = "slack_url, pagerduty_key"
  }
}

resource "aws_secretsmanager_secret" "each" {
  for_each                = local.secrets
  name                    = "${local.name}/${each.key}"
  description             = each.value
  kms_key_id              = aws_kms_key.main.arn
  recovery_window_in_days = local.prod ? 30 : 7
}
