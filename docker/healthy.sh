#!/bin/bash
# healthy.sh HOST PORT PATH [TEXT]: whether an HTTP server answers 200, with this text in the body. No Python: it runs often.
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf 'GET %s HTTP/1.0\r\nHost: %s:%s\r\n\r\n' "$3" "$1" "$2" >&3
answer=$(timeout 5 cat <&3 | tr -d '\0 \n')
[[ "$answer" == HTTP/1.?200* && "$answer" == *"${4:-}"* ]]
