# shellcheck shell=sh
# Stands for the entrypoint of the official mysql image, with Debian's MariaDB.
set -eu
data=/var/lib/mysql
mkdir -p /run/mysqld
chown mysql:mysql /run/mysqld "$data"
if [ ! -d "$data/mysql" ]; then
    echo "Initializing database files"
    mariadb-install-db --user=mysql --datadir="$data" --skip-test-db >/dev/null
    cat >/run/mysqld/first.sql <<SQL
CREATE DATABASE \`$MYSQL_DATABASE\`;
CREATE USER '$MYSQL_USER'@'%' IDENTIFIED BY '$MYSQL_PASSWORD';
GRANT ALL ON \`$MYSQL_DATABASE\`.* TO '$MYSQL_USER'@'%';
SQL
    set -- --init-file=/run/mysqld/first.sql
fi
exec mariadbd --user=mysql --datadir="$data" --bind-address=0.0.0.0 "$@"
