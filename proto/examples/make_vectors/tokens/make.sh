#!/bin/sh
# Makes the tokens beside this file with OpenSSL 3: a timestamping authority that shares no code with ours. Run by hand, once; the
# keys are thrown away. make_vectors reads what is here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"
printf 'causeway.v1/%064d\n7\n%s=\n' 0 "$(printf 'A%.0s' $(seq 43))" > head.txt
cat > ca.cnf <<'C'
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[stamps]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
C
key() { # name, kind
    case $2 in
    rsa) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1.key" 2> /dev/null ;;
    *) openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -out "$1.key" ;;
    esac
}
root() { # name, kind
    key "$1" "$2"
    openssl req -new -x509 -key "$1.key" -subj "/CN=$1" -days 10950 -config ca.cnf -extensions authority -out "$1.pem" 2> /dev/null
}
issue() { # name, kind, issuer, what
    key "$1" "$2"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA "$3.pem" -CAkey "$3.key" -days 10950 -sha384 -extfile ca.cnf -extensions "$4" \
        -set_serial "0x$(openssl rand -hex 15)" -out "$1.pem" 2> /dev/null
}
stamp() { # name, digest, hash that names the certificate, chain
    echo 01 > serial
    cat > tsa.cnf <<T
[tsa]
default_tsa = it
[it]
serial = $work/serial
crypto_device = builtin
signer_cert = $work/$1.pem
signer_key = $work/$1.key
signer_digest = $2
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = $3
T
    openssl ts -query -data head.txt -sha256 -cert -out query.tsq 2> /dev/null
    if [ -n "$4" ]; then openssl ts -reply -config tsa.cnf -queryfile query.tsq -chain "$4" -token_out -out "$here/$5.token" 2> /dev/null
    else openssl ts -reply -config tsa.cnf -queryfile query.tsq -token_out -out "$here/$5.token" 2> /dev/null; fi
}
der() { openssl x509 -in "$1.pem" -outform DER -out "$here/$1.certificate"; }

root root-rsa rsa
issue tsa-rsa rsa root-rsa stamps
stamp tsa-rsa sha256 sha256 "" rsa-sha256
stamp tsa-rsa sha512 sha1 "" rsa-sha512-named-by-sha1

root root-p256 P-256
issue between-p384 P-384 root-p256 authority
issue tsa-p384 P-384 between-p384 stamps
stamp tsa-p384 sha384 sha256 between-p384.pem p384-under-an-authority-between
stamp tsa-p384 sha256 sha256 "" p384-without-the-authority-between

issue between-rsa rsa root-p256 authority
issue tsa-p521 P-521 between-rsa stamps
stamp tsa-p521 sha512 sha256 between-rsa.pem p521-under-rsa

for certificate in root-rsa tsa-rsa root-p256 between-p384; do der "$certificate"; done
cp head.txt "$here/head.txt"
