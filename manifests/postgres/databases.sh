# Runs once, on an empty volume: a database each for the platform and MLflow, owned by a user of its name.
set -eu
for name in pvf mlflow; do
  case $name in pvf) password=$PVF_PASSWORD ;; mlflow) password=$MLFLOW_PASSWORD ;; esac
  psql -v ON_ERROR_STOP=1 -v name="$name" -v password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
# Nobody comes in over the network without TLS and a password.
cat > "$PGDATA/pg_hba.conf" <<'HBA'
local   all all               trust
host    all all 127.0.0.1/32  scram-sha-256
hostssl all all 0.0.0.0/0     scram-sha-256
hostssl all all ::/0          scram-sha-256
HBA
