#!/bin/sh
# Makes the certificates of the tests anew, valid from 2020 to 2120. They protect nothing: their keys are public.
#
#   ca          signs server, other and client
#   server      of localhost and 127.0.0.1; server.der is its key in another form
#   other       the same for another server: what a reload brings
#   client      of a client
#   stranger    of a client that ca does not know
set -e
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$work/index"
echo 01 > "$work/serial"
cat > "$work/config" <<CONFIG
[ca]
default_ca = its
[its]
new_certs_dir = $work
database = $work/index
serial = $work/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
[server]
subjectAltName = DNS:localhost,IP:127.0.0.1
[client]
extendedKeyUsage = clientAuth
CONFIG

key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2> /dev/null
}

# sign NAME COMMON_NAME EXTENSIONS HOW...
sign() {
  name=$1 subject=$2 extensions=$3
  shift 3
  key "$name"
  openssl req -new -key "$name.key" -subj "/CN=$subject" -out "$work/request"
  openssl ca -batch -notext -config "$work/config" -extensions "$extensions" -in "$work/request" -out "$name.pem" \
    -startdate 20200101000000Z -enddate 21200101000000Z "$@" 2> /dev/null
}

sign ca 'Test CA' authority -selfsign -keyfile ca.key
sign server localhost server -cert ca.pem -keyfile ca.key
sign other localhost server -cert ca.pem -keyfile ca.key
sign client client client -cert ca.pem -keyfile ca.key
sign stranger stranger client -selfsign -keyfile stranger.key
openssl pkcs8 -topk8 -nocrypt -in server.key -outform DER -out server.der
