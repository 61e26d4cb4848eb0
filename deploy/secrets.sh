#!/bin/sh
# Makes, once, what a deployment's processes know each other by: secrets.sh SERVER_FOLDER KEYS_FOLDER HOST...
#
# SERVER_FOLDER is for the server: ca.pem, server.pem and server.key, for the host names that clients call it by.
# KEYS_FOLDER is for clients and workers: ca.pem, client.pem and client.key, which let them in, and celeryflow.key,
# which signs what they run. The authority's own key is not kept: nobody can make further certificates.
set -eu
umask 077

server=$1 keys=$2
shift 2
if [ -e "$keys/celeryflow.key" ]; then
  exit 0
fi
names="DNS:localhost"
for host in "$@"; do
  names="$names,DNS:$host"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

new_key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$work/$1.key"
}

# issue NAME USE [SUBJECT_ALTERNATIVE_NAMES]
issue() {
  new_key "$1"
  openssl req -new -key "$work/$1.key" -subj "/CN=celeryflow $1" -out "$work/$1.csr"
  {
    echo "basicConstraints=critical,CA:FALSE"
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$2"
    echo "subjectKeyIdentifier=hash"
    echo "authorityKeyIdentifier=keyid"
    [ -z "${3:-}" ] || echo "subjectAltName=$3"
  } > "$work/$1.ext"
  openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
    -days 3650 -extfile "$work/$1.ext" -out "$work/$1.pem"
}

new_key ca
openssl req -x509 -key "$work/ca.key" -subj "/CN=celeryflow authority" -days 3650 \
  -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$work/ca.pem"
issue server "serverAuth,clientAuth" "$names"
issue client clientAuth

cp "$work/ca.pem" "$work/server.pem" "$work/server.key" "$server/"
cp "$work/ca.pem" "$work/client.pem" "$work/client.key" "$keys/"
# Last: it says that all the rest is there.
celeryflow keygen "$keys/celeryflow.key"
