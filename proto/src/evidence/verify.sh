#!/bin/sh
# Verifies the archive, or the container, of Causeway evidence in whose directory it stands, with a POSIX shell and openssl 3 and nothing else:
#
#     sh verify.sh [AUTHORITY.pem]
#
# It is the same file in every archive, has no data of any, and ends with 0 where all that it checks holds, with 5 at the
# first thing that does not, and with 2 where it cannot be run. With AUTHORITY.pem (the instance's authority, which you have
# from the registry and not from here) it also asks whether that one issued the signing certificates. Steps are those of
# PROTOCOL.md. What it does not check, it says at the end.

LC_ALL=C
export LC_ALL
set -u
umask 077

say() { printf '%s\n' "$*"; }
cannot() { say "cannot verify: $*" >&2; exit 2; }
refuse() { say "REFUSED by step $1: $2: $3"; say "Nothing is proven."; exit 5; }

authority=
if [ $# -gt 0 ]; then
    authority=$1
    [ -r "$authority" ] || cannot "$authority cannot be read"
    case $authority in /*) ;; *) authority=$PWD/$authority ;; esac
fi
CDPATH= cd -- "$(dirname -- "$0")" || cannot "its directory cannot be entered"
case $(openssl version 2>/dev/null) in
    "OpenSSL 3."* | "OpenSSL 4."*) ;;
    *) cannot "openssl 3 is wanted, and was not found" ;;
esac
[ -f manifest.txt ] && [ -f evidence.json ] || cannot "unpack the whole archive, and call the verify.sh in it"
! grep -q '\\' evidence.json || cannot "evidence.json has escapes, which a shell does not read"
tmp=${TMPDIR:-/tmp}/causeway-verify.$$
mkdir "$tmp" || cannot "$tmp cannot be made"
trap 'rm -rf "$tmp"' 0
trap 'exit 2' 1 2 15

# ---- bytes

sha256() { openssl dgst -sha256 -binary; }
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }
hash_of() { openssl dgst -sha256 -r "$1" | cut -c1-64; }

# The bytes that a text in hexadecimal stands for.
unhex() {
    rest=$1 octal=
    while [ -n "$rest" ]; do
        tail=${rest#??}
        byte=$((0x${rest%"$tail"}))
        octal="$octal\\0$((byte / 64))$((byte / 8 % 8))$((byte % 8))"
        rest=$tail
    done
    printf '%b' "$octal"
}

# A number as a varint of protobuf; a number in four bytes.
varint() {
    left=$1 octal=
    while [ "$left" -gt 127 ]; do
        byte=$((left % 128 + 128)) left=$((left / 128))
        octal="$octal\\0$((byte / 64))$((byte / 8 % 8))$((byte % 8))"
    done
    printf '%b' "$octal\\0$((left / 64))$((left / 8 % 8))$((left % 8))"
}
four() { unhex "$(printf '%08x' "$1")"; }

# Fields of protobuf: $1 is the number of the field. A number that is its default is not written.
number_field() { [ "$2" -eq 0 ] || { varint $(($1 * 8)); varint "$2"; }; }
bytes_field() { [ ! -s "$2" ] || { varint $(($1 * 8 + 2)); varint "$(($(wc -c <"$2")))"; cat "$2"; }; }
hash_fields() { for each in $2; do varint $(($1 * 8 + 2)); varint 32; unhex "$each"; done; }

is_number() { case $1 in '' | *[!0-9]* | 0?* | ????????????????*) return 1 ;; esac; }
is_hash() { case $1 in *[!0-9a-f]*) return 1 ;; esac; [ ${#1} -eq 64 ]; }

# Whether evidence.json has these bytes as a text in base64.
in_evidence() {
    { printf '"'; openssl base64 -A -in "$1"; printf '"'; } >"$tmp/base64"
    grep -qF -f "$tmp/base64" evidence.json
}

# ---- PROTOCOL.md 5.2: Merkle trees

# From the leaf's hash in $tmp/node at index $1 of $2, with the hashes $3: the root, in $tmp/node (RFC 9162 section 2.1.3.2).
climb() {
    index=$1 last=$(($2 - 1))
    [ "$index" -le "$last" ] || return 1
    for other in $3; do
        [ "$last" -gt 0 ] || return 1
        if [ $((index % 2)) -eq 1 ] || [ "$index" -eq "$last" ]; then
            { printf '\001'; unhex "$other"; cat "$tmp/node"; } | sha256 >"$tmp/parent"
            while [ "$index" -ne 0 ] && [ $((index % 2)) -eq 0 ]; do
                index=$((index / 2)) last=$((last / 2))
            done
        else
            { printf '\001'; cat "$tmp/node"; unhex "$other"; } | sha256 >"$tmp/parent"
        fi
        mv "$tmp/parent" "$tmp/node"
        index=$((index / 2)) last=$((last / 2))
    done
    [ "$last" -eq 0 ]
}

# Reads path.txt or place.txt: key or timestamp and kind, record and records, commit, and the hashes of both paths.
read_path() {
    key= timestamp= kind= record= records= commit= record_path= commit_path= of=record
    while read -r word value more || [ -n "$word" ]; do
        case $word in
            key) key=$value ;;
            timestamp) timestamp=$value ;;
            kind) kind=$value ;;
            record) record=$value records=${more#of } ;;
            commit) commit=$value of=commit ;;
            with)
                is_hash "$value" || return 1
                if [ $of = record ]; then record_path="$record_path $value"; else commit_path="$commit_path $value"; fi
                ;;
            *) return 1 ;;
        esac
    done <"$1"
    is_number "$record" && is_number "$records" && is_number "$commit"
}

# Reads a head (5.3): tree, size, root in base64.
read_head() {
    { read -r origin && read -r size && read -r root; } <"$1" || return 1
    tree=${origin#causeway.v1/}
    is_hash "$tree" && is_number "$size" || return 1
    printf 'causeway.v1/%s\n%s\n%s\n' "$tree" "$size" "$root" | cmp -s - "$1"
}

# Record and commit that were read last, with their paths, as five fields from number $1 on.
path_fields() {
    number_field "$1" "$record"
    number_field $(($1 + 1)) "$records"
    hash_fields $(($1 + 2)) "$record_path"
    number_field $(($1 + 3)) "$commit"
    hash_fields $(($1 + 4)) "$commit_path"
}

# Whether the nonce in $1 has its length, and the commit that was read last no more records than one may hold.
fits() { [ $(($(wc -c <"$1"))) -eq 16 ] && [ "$records" -le 65536 ]; }

# Whether the record in $tmp/record is under the root of the head that was read last, by the path that was read last.
is_under() {
    { printf '\000'; cat "$tmp/record"; } | sha256 >"$tmp/node"
    climb "$record" "$records" "$record_path" || return 1
    { printf '\000causeway/v1/commit\n'; four "$records"; cat "$tmp/node"; } | sha256 >"$tmp/commit"
    mv "$tmp/commit" "$tmp/node"
    climb "$commit" "$size" "$commit_path" || return 1
    [ "$(openssl base64 -A -in "$tmp/node")" = "$root" ]
}

# ---- PROTOCOL.md 3: headers. Only what is needed here is read of them.

# The part of the header's hexadecimal text from byte $1 on, $2 bytes.
cut_out() { printf '%s' "$text" | cut -c$((2 * $1 + 1))-$((2 * ($1 + $2))); }

read_header() {
    text=$(hex "$1") offset=0
    exchange= attempt=0 direction=0 position=0 time=0 previous= opening=
    # shellcheck disable=SC2046 # one word for each byte
    set -- $(od -An -v -tu1 "$1")
    while [ $# -gt 0 ]; do
        tag=0 scale=1
        while [ $# -gt 0 ] && [ "$1" -gt 127 ]; do tag=$((tag + ($1 - 128) * scale)) scale=$((scale * 128)) offset=$((offset + 1)); shift; done
        [ $# -gt 0 ] || return 1
        tag=$((tag + $1 * scale)) offset=$((offset + 1)); shift
        value=0 scale=1
        while [ $# -gt 0 ] && [ "$1" -gt 127 ]; do value=$((value + ($1 - 128) * scale)) scale=$((scale * 128)) offset=$((offset + 1)); shift; done
        [ $# -gt 0 ] || return 1
        value=$((value + $1 * scale)) offset=$((offset + 1)); shift
        case $((tag % 8)) in
            0) ;;
            2)
                [ "$value" -ge 0 ] && [ "$value" -le $# ] || return 1
                begin=$offset offset=$((offset + value))
                shift "$value"
                ;;
            *) return 1 ;;
        esac
        case $tag in
            18) exchange=$(cut_out "$begin" "$value") ;;
            24) attempt=$value ;;
            32) direction=$value ;;
            40) position=$value ;;
            48) time=$value ;;
            74) opening=$(cut_out $((begin + 2)) 32) ;;
            82) previous=$(cut_out "$begin" "$value") ;;
        esac
    done
    [ ${#exchange} -eq 32 ] && [ "$time" -gt 0 ]
}

# ---- 7.20 and 7.21: the archive's files

# What is here but the manifest, and what a container has beyond an archive (7.22).
listable() { find . -type f ! -path ./manifest.txt ! -path ./mimetype ! -path ./META-INF/ASiCManifest001.xml ! -path ./META-INF/signature001.p7s "$@"; }
find . ! -type d ! -type f >"$tmp/others"
[ ! -s "$tmp/others" ] || refuse 7.20 "$(head -n 1 "$tmp/others")" "neither a file nor a directory"
listable | sed 's/^\.\///' | sort >"$tmp/there"
# A name with a line's end in it is two lines, and one file.
[ $(($(listable -exec printf 'x\n' \; | wc -l))) -eq $(($(wc -l <"$tmp/there"))) ] ||
    refuse 7.20 names "one is no plain name of a file"
! grep -qv '^[A-Za-z0-9_][A-Za-z0-9._/-]*$' "$tmp/there" || refuse 7.20 names "one is no plain name of a file"
sed 's/^[0-9a-f]*  //' manifest.txt >"$tmp/listed"
cmp -s "$tmp/there" "$tmp/listed" || refuse 7.21 manifest.txt "it does not list just the files that are here"
xargs openssl dgst -sha256 -r <"$tmp/there" | sed 's/ \*/  /' >"$tmp/found"
cmp -s "$tmp/found" manifest.txt || refuse 7.21 "$(sort manifest.txt "$tmp/found" | uniq -u | cut -c67- | head -n 1)" \
    "it is not the file that the manifest lists"
while read -r digest name; do
    # A document of the configuration is named by its digest (8.1.1); metadata by its version.
    case $name in
        configuration/*)
            named=${name##*/} named=${named%%.*}
            if is_hash "$named" && [ "$named" != "$digest" ]; then
                refuse 8.1 "$name" "its bytes have another digest than its name"
            fi
            ;;
    esac
done <manifest.txt
# How often evidence.json has a field, wherever it stands.
counted() { tr '{,' '\n\n' <evidence.json | grep -c "^[[:space:]]*\"$1\"[[:space:]]*:"; }
files() { grep -c "^messages/[0-9]*/$1\$" "$tmp/there"; }
count=0
while [ -d "messages/$(printf %05d $count)" ]; do count=$((count + 1)); done
directories=$(find messages -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)
[ "$count" -gt 0 ] && [ "$count" -eq $((directories)) ] || refuse 7.21 messages "they are not numbered from 00000"
for part in header seal genesis payload place; do
    [ "$(files $part.bin)" -eq "$(counted $part)" ] || refuse 7.21 "$part.bin" "there are not as many as evidence.json has"
done
number='[0-9][0-9][0-9][0-9][0-9]'
! grep -qvE "^(evidence\.json|verify\.sh|timestamping\.pem|configuration/.+|keys/[0-9a-f]{64}\.pem|messages/$number/((header|seal|genesis|payload|place|nonce|place-nonce)\.bin|(path|head|place)\.txt|signature\.der)|timestamps/$number/(stamp\.bin|head\.txt|token\.der))\$" "$tmp/there" ||
    refuse 7.21 names "evidence.json makes no such file"
say "holds  7.21  every file is the one that the manifest lists"

# ---- 7.19: timestamps, before the messages that stand under them

# Seconds since 1970 of YYYYMMDDhhmmss, without leading zeros that a shell would take for octal.
seconds() {
    ten() { printf '%s' "$1" | cut -c"$2" | sed 's/^0*\(.\)/\1/'; }
    y=$(ten "$1" 1-4) m=$(ten "$1" 5-6) d=$(ten "$1" 7-8)
    [ "$m" -gt 2 ] || { y=$((y - 1)) m=$((m + 12)); }
    days=$((365 * y + y / 4 - y / 100 + y / 400 + (153 * (m - 3) + 2) / 5 + d - 719469))
    echo $((days * 86400 + $(ten "$1" 9-10) * 3600 + $(ten "$1" 11-12) * 60 + $(ten "$1" 13-14)))
}

# YYYYMMDDhhmmss of "Jan 15 08:00:30 2027 GMT", as openssl writes it.
compact() {
    # shellcheck disable=SC2086 # its words
    set -- ${1%% GMT}
    [ $# -eq 4 ] || return 1
    names=JanFebMarAprMayJunJulAugSepOctNovDec before=${names%%"$1"*}
    [ "$before" != "$names" ] || return 1
    printf '%s%02d%02d%s' "$4" $((${#before} / 3 + 1)) "$2" "$(printf %s "${3%%.*}" | tr -d :)"
}

# The authorities are those of the instance's document in the configuration.
if [ -f timestamping.pem ]; then
    while read -r line || [ -n "$line" ]; do
        case $line in
            *BEGIN*) printf '"' >"$tmp/base64" ;;
            *END*)
                printf '"' >>"$tmp/base64"
                find configuration -name '*.instance.json' -exec grep -qF -f "$tmp/base64" {} \; -print >"$tmp/said"
                [ -s "$tmp/said" ] || refuse 8.3 timestamping.pem "the instance's document has not these certificates"
                ;;
            *) printf '%s' "$line" >>"$tmp/base64" ;;
        esac
    done <timestamping.pem
fi

stamps=0
while [ -d "timestamps/$(printf %05d $stamps)" ]; do
    at=timestamps/$(printf %05d $stamps)
    { bytes_field 1 "$at/head.txt"; bytes_field 2 "$at/token.der"; } | cmp -s - "$at/stamp.bin" ||
        refuse 7.18 "$at" "stamp.bin is not head and token"
    in_evidence "$at/stamp.bin" || refuse 7.21 "$at/stamp.bin" "evidence.json has not these bytes"
    read_head "$at/head.txt" || refuse 7.18 "$at/head.txt" "it is no head"
    # Out of what the authority signed, as openssl reads it there: elsewhere in a token anybody may write a time.
    moment=$(compact "$(openssl ts -reply -token_in -in "$at/token.der" -token_out -text 2>/dev/null |
        sed -n 's/^Time stamp: //p' | sed 1q)") || moment=
    [ ${#moment} -eq 14 ] || refuse 16.3.1 "$at/token.der" "it is no timestamp token"
    openssl ts -verify -in "$at/token.der" -token_in -data "$at/head.txt" -CAfile timestamping.pem \
        -partial_chain -attime "$(seconds "$moment")" >"$tmp/said" 2>&1 ||
        refuse 16.3 "$at/token.der" "openssl ts does not verify it: $(tail -n 1 "$tmp/said")"
    say "holds  7.19  $at: its head was there at $moment UTC, as the authority says"
    stamps=$((stamps + 1))
done
directories=$(find timestamps -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)
[ "$stamps" -eq $((directories)) ] || refuse 7.21 timestamps "they are not numbered from 00000"

# ---- 7.22 and 7.23: of a container, its manifest and the signature over that

own= signer=
for name in mimetype META-INF/ASiCManifest001.xml META-INF/signature001.p7s; do [ ! -f $name ] || own="$own $name"; done
if [ -n "$own" ]; then
    [ "$own" = " mimetype META-INF/ASiCManifest001.xml META-INF/signature001.p7s" ] || refuse 7.22 META-INF "a container has three files more, and not$own alone"
    printf 'application/vnd.etsi.asic-e+zip' | cmp -s - mimetype || refuse 7.22 mimetype "it is another type"
    { cat manifest.txt; say "$(hash_of manifest.txt)  manifest.txt"; } | sort -k 2 >"$tmp/all"
    {
        say '<?xml version="1.0" encoding="UTF-8"?>'
        say '<asic:ASiCManifest xmlns:asic="http://uri.etsi.org/02918/v1.2.1#" xmlns:ds="http://www.w3.org/2000/09/xmldsig#">'
        say '<asic:SigReference URI="META-INF/signature001.p7s" MimeType="application/pkcs7-signature"/>'
        while read -r digest name; do
            unhex "$digest" >"$tmp/digest"
            case $name in evidence.json) root=' MimeType="application/json" Rootfile="true"' ;; *) root= ;; esac
            printf '<asic:DataObjectReference URI="%s"%s><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>' "$name" "$root"
            say "<ds:DigestValue>$(openssl base64 -A -in "$tmp/digest")</ds:DigestValue></asic:DataObjectReference>"
        done <"$tmp/all"
        say '</asic:ASiCManifest>'
    } | cmp -s - META-INF/ASiCManifest001.xml || refuse 7.22 META-INF/ASiCManifest001.xml "it does not list just the files that are here"
    openssl cms -verify -binary -noverify -inform DER -in META-INF/signature001.p7s -content META-INF/ASiCManifest001.xml \
        -signer "$tmp/signer" -out "$tmp/content" >"$tmp/said" 2>&1 ||
        refuse 7.23 META-INF/signature001.p7s "openssl cms does not verify it: $(tail -n 1 "$tmp/said")"
    openssl x509 -in "$tmp/signer" -outform DER 2>/dev/null | openssl base64 -A >"$tmp/base64"
    find configuration/members -type f -exec grep -qF -f "$tmp/base64" {} \; -print >"$tmp/said" 2>/dev/null
    [ -s "$tmp/said" ] || refuse 7.23 META-INF/signature001.p7s "no member's document in the configuration has its certificate"
    moment=$(compact "$(openssl cms -cmsout -print -noout -inform DER -in META-INF/signature001.p7s 2>/dev/null |
        sed -n -e '/object: signingTime /{n;n;s/^ *UTCTIME://p;s/^ *GENERALIZEDTIME://p;}' | sed 1q)") || moment=
    [ ${#moment} -eq 14 ] || refuse 7.23 META-INF/signature001.p7s "it names no time"
    issuer=$tmp/signer
    [ -z "$authority" ] || issuer=$authority
    openssl verify -partial_chain -no-CApath -no-CAstore -attime "$(seconds "$moment")" -CAfile "$issuer" "$tmp/signer" >"$tmp/said" 2>&1 ||
        refuse 7.23 META-INF/signature001.p7s "its certificate was not valid at $moment, or the authority that you gave did not issue it"
    signer=$(openssl x509 -in "$tmp/signer" -noout -subject)
    say "holds  7.23  META-INF/signature001.p7s: over the manifest of all files, at $moment UTC by its own clock, $signer"
fi

# ---- 7.2 to 7.5, 7.7, 7.18: messages

: >"$tmp/heads"
: >"$tmp/stamped"
first= n=0
while [ $n -lt $count ]; do
    at=messages/$(printf %05d $n)
    for part in header genesis seal; do
        in_evidence "$at/$part.bin" || refuse 7.21 "$at/$part.bin" "evidence.json has not these bytes"
    done
    if [ -f "$at/payload.bin" ]; then
        in_evidence "$at/payload.bin" || refuse 7.21 "$at/payload.bin" "evidence.json has not these bytes"
    fi

    read_header "$at/header.bin" || refuse 7.2 "$at/header.bin" "it is no header"
    grep -qF "\"$exchange\"" evidence.json && [ "${first:=$exchange}" = "$exchange" ] ||
        refuse 7.2 "$at/header.bin" "it is of the exchange $exchange"
    case $direction in
        1) way=request ;;
        2) way=answer ;;
        *) refuse 3.2.1 "$at/header.bin" "it has no direction" ;;
    esac
    chain=$tmp/chain.$attempt.$way
    [ -f "$chain" ] || : >"$chain"
    [ "$position" -eq $(($(wc -l <"$chain"))) ] || refuse 3.3.1 "$at" "it stands at another position of its direction"
    [ "$position" -eq 0 ] || [ "$previous" = "$(tail -n 1 "$chain")" ] ||
        refuse 3.3.1 "$at" "it does not follow the message before it"
    if [ $way = answer ]; then
        [ -f "$tmp/chain.$attempt.request" ] && [ "$opening" = "$(head -n 1 "$tmp/chain.$attempt.request")" ] ||
            refuse 3.3.3 "$at" "it answers another request"
    fi
    { printf 'causeway/v1/message\n'; cat "$at/header.bin"; } >"$tmp/message"
    hash_of "$tmp/message" >>"$chain"

    # 5.4: the seal leads from the header to a head that the key signed.
    read_head "$at/head.txt" || refuse 5.4.3 "$at/head.txt" "it is no head"
    [ "$tree" = "$(hash_of "$at/genesis.bin")" ] || refuse 5.4.3 "$at" "the head is of another tree than the genesis"
    case $(hex "$at/genesis.bin") in 01*) ;; *) refuse 5.4.2 "$at/genesis.bin" "it is no genesis" ;; esac
    read_path "$at/path.txt" && is_hash "$key" || refuse 5.4.3 "$at/path.txt" "it is no path"
    unhex "$key" >"$tmp/key"
    {
        bytes_field 1 "$at/nonce.bin"
        path_fields 2
        bytes_field 7 "$at/head.txt"
        bytes_field 8 "$tmp/key"
        bytes_field 9 "$at/signature.der"
    } | cmp -s - "$at/seal.bin" || refuse 7.21 "$at/seal.bin" "it is not made of the files beside it"
    fits "$at/nonce.bin" ||
        refuse 5.4.3 "$at" "the nonce has not its length, or a commit holds fewer records"
    { printf '\002'; cat "$at/nonce.bin" "$at/header.bin"; } >"$tmp/record"
    is_under || refuse 5.4.5 "$at" "its paths do not lead to the root of its head"
    certificate=keys/$key.pem
    openssl x509 -in "$certificate" -noout -pubkey >"$tmp/public" 2>/dev/null &&
        openssl pkey -pubin -in "$tmp/public" -outform DER -out "$tmp/spki" 2>/dev/null &&
        [ "$(hash_of "$tmp/spki")" = "$key" ] ||
        refuse 5.4.6 "$certificate" "it is not the certificate of the key that the seal names"
    openssl verify -partial_chain -no-CApath -no-CAstore -attime $((time / 1000)) -CAfile "$certificate" "$certificate" >"$tmp/said" 2>&1 ||
        refuse 5.4.6 "$certificate" "it was not valid at the message's time"
    if [ -n "$authority" ]; then
        openssl verify -no-CApath -no-CAstore -attime $((time / 1000)) -CAfile "$authority" "$certificate" >"$tmp/said" 2>&1 ||
            refuse 10 "$certificate" "the authority that you gave did not issue it"
    fi
    openssl x509 -in "$certificate" -outform DER 2>/dev/null | openssl base64 -A >"$tmp/base64"
    find configuration/members -type f -exec grep -qF -f "$tmp/base64" {} \; -print >"$tmp/said" 2>/dev/null
    [ -s "$tmp/said" ] || refuse 8.3 "$certificate" "no member's document in the configuration has it"
    openssl dgst -sha256 -verify "$tmp/public" -signature "$at/signature.der" "$at/head.txt" >"$tmp/said" 2>&1 ||
        refuse 5.4.7 "$at/signature.der" "the signature over the head does not hold"
    say "$tree $size $root" >>"$tmp/heads"
    say "$certificate" >>"$tmp/certificates"
    say "holds  5.4   $at: $way $position of attempt $attempt, sealed under size $size of the tree $tree"

    # 7.18: its place under a stamped head.
    if [ -f "$at/place.bin" ]; then
        in_evidence "$at/place.bin" || refuse 7.21 "$at/place.bin" "evidence.json has not these bytes"
        read_path "$at/place.txt" && is_number "$timestamp" && [ "$timestamp" -lt $stamps ] ||
            refuse 7.18 "$at/place.txt" "it is no place under a timestamp that is here"
        case $kind in
            sent)
                received=0
                { printf '\002'; cat "$at/place-nonce.bin" "$at/header.bin"; } >"$tmp/record"
                ;;
            received)
                received=1
                { printf 'causeway/v1/seal\n'; cat "$at/seal.bin"; } | sha256 >"$tmp/digest"
                { printf '\003'; cat "$at/place-nonce.bin" "$tmp/digest" "$at/header.bin"; } >"$tmp/record"
                ;;
            *) refuse 7.18 "$at/place.txt" "it is neither of a message sent nor of one received" ;;
        esac
        {
            number_field 1 "$timestamp"
            number_field 2 $received
            bytes_field 3 "$at/place-nonce.bin"
            path_fields 4
        } | cmp -s - "$at/place.bin" || refuse 7.21 "$at/place.bin" "it is not made of the files beside it"
        fits "$at/place-nonce.bin" ||
            refuse 7.18 "$at/place.txt" "the nonce has not its length, or a commit holds fewer records"
        read_head "timestamps/$(printf %05d "$timestamp")/head.txt"
        is_under || refuse 7.18 "$at/place.txt" "its paths do not lead to the root of the stamped head"
        say "$timestamp" >>"$tmp/stamped"
        say "holds  7.18  $at: under the head of timestamps/$(printf %05d "$timestamp")"
    fi
    n=$((n + 1))
done
[ $(($(sort -u "$tmp/stamped" | wc -l))) -eq $stamps ] || refuse 7.18 timestamps "one of them is over no message"
sort -u "$tmp/heads" | cut -d ' ' -f 1,2 | uniq -d >"$tmp/said"
[ ! -s "$tmp/said" ] || refuse 7.7 "tree $(head -n 1 "$tmp/said")" "its key signed two roots of one size"

say
say "All that a shell and openssl can check of these $count messages of the exchange $first holds."
say "  proven      each header is in a log whose head the key of its certificate signed:"
sort -u "$tmp/certificates" | while read -r certificate; do
    say "                $certificate, $(openssl x509 -in "$certificate" -noout -subject)"
done
if [ $stamps -gt 0 ]; then
    say "  proven      $(($(wc -l <"$tmp/stamped"))) messages existed by the times above, as the authorities in timestamping.pem say"
else
    say "  not proven  any time: no timestamp is in this archive"
fi
[ -z "$signer" ] || say "  proven      who holds the key of the certificate with $signer gave out this container as it is"
say "  not checked that the keys were those of the members that the headers name, and not revoked: the signatures of"
say "                the global configuration, its delegations and its canonical JSON (7.4, 8.2, 8.3; policy and"
say "                revocation of timestamps, 16.3)"
[ -n "$authority" ] || say "  not checked who issued the certificates: call it with the authority's certificate to ask"
say "  not checked that evidence.json and the files in configuration/ say the same, but for the documents that have the certificates"
[ -z "$signer" ] || say "  not checked that the container's signature has the one form of 7.23"
say "  not checked the canonical encoding of headers (3.1, 3.2), who is named in them (7.3), and what was said (7.6)"
say "  These are checked by \`security-server evidence verify\` and by the auditor, with the anchor."
