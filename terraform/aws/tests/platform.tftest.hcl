# Plans with a mocked provider: what must hold whatever the variables say. No account is needed.
mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }

  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }

  mock_resource "aws_eks_cluster" {
    defaults = {
      arn        = "arn:aws:eks:eu-central-1:123456789012:cluster/pvforecast-prod"
      identity   = [{ oidc = [{ issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/ABC" }] }]
      vpc_config = { cluster_security_group_id = "sg-0123456789abcdef0" }
    }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/pvforecast" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:flow" }
  }

  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks" }
  }

  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0" }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:alerts" }
  }

  mock_resource "aws_db_instance" {
    defaults = { master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds" }] }
  }
}

run "production" {
  variables {
    environment = "prod"
  }

  assert {
    condition     = aws_db_instance.main.multi_az && aws_db_instance.main.deletion_protection && !aws_db_instance.main.skip_final_snapshot
    error_message = "Postgres in production stands in two zones and is not deleted by mistake."
  }

  assert {
    condition     = aws_db_instance.main.storage_encrypted && !aws_db_instance.main.publicly_accessible
    error_message = "Postgres is encrypted and private."
  }

  assert {
    condition     = [for p in aws_db_parameter_group.main.parameter : p.value if p.name == "rds.force_ssl"] == ["1"]
    error_message = "Postgres takes no connection without TLS."
  }

  assert {
    condition     = length(aws_nat_gateway.main) == 3 && length(aws_subnet.private) == 3
    error_message = "A lost zone leaves the others working."
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket_public_access_block.each : bucket.block_public_acls && bucket.block_public_policy && bucket.restrict_public_buckets && bucket.ignore_public_acls])
    error_message = "No bucket can become public."
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket_versioning.each : bucket.versioning_configuration[0].status == "Enabled"])
    error_message = "Every bucket keeps versions."
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.backup.rule[0].default_retention[0].mode == "COMPLIANCE"
    error_message = "Backups of production cannot be deleted before their time, by nobody."
  }

  assert {
    condition     = aws_eks_cluster.main.vpc_config[0].endpoint_public_access == false
    error_message = "The cluster's API is private unless somebody says who may reach it."
  }

  assert {
    condition     = aws_eks_node_group.training.capacity_type == "SPOT" && aws_eks_node_group.training.scaling_config[0].min_size == 0
    error_message = "Training costs nothing when nothing trains."
  }

  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required" && aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "No pod takes its node's role."
  }

  assert {
    condition     = alltrue([for repository in aws_ecr_repository.image : repository.image_tag_mutability == "IMMUTABLE"])
    error_message = "A tag means one image for good."
  }

  assert {
    condition     = toset(keys(aws_ecr_repository.image)) == toset(["app", "serve", "drift"])
    error_message = "One repository an image."
  }
}

run "staging_is_smaller" {
  variables {
    environment = "staging"
  }

  assert {
    condition     = length(aws_nat_gateway.main) == 1 && !aws_db_instance.main.multi_az && aws_db_instance.main.skip_final_snapshot
    error_message = "Staging has one of each and may go."
  }

  assert {
    condition     = aws_s3_bucket_object_lock_configuration.backup.rule[0].default_retention[0].mode == "GOVERNANCE"
    error_message = "Staging's backups can be deleted by who is allowed to."
  }
}

run "reachable_from_the_office_only" {
  variables {
    environment      = "prod"
    api_access_cidrs = ["192.0.2.0/24"]
  }

  assert {
    condition     = aws_eks_cluster.main.vpc_config[0].public_access_cidrs == toset(["192.0.2.0/24"])
    error_message = "Only the networks named reach the API."
  }
}

run "another_environment_is_refused" {
  command = plan

  variables {
    environment = "test"
  }

  expect_failures = [var.environment]
}

run "a_small_network_is_refused" {
  command = plan

  variables {
    environment = "prod"
    vpc_cidr    = "10.40.0.0/20"
  }

  expect_failures = [var.vpc_cidr]
}
