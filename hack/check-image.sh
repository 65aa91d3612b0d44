#!/usr/bin/env bash
# Checks what can be known of the image without a container engine:
#   - each COPY source in the Dockerfile exists and passes .dockerignore;
#   - from those files alone, the Dockerfile's own build command makes a
#     manager for each platform;
#   - the results are static binaries of the right machine, without cgo and
#     without the names of local directories.
# Needs bash, the usual core tools, and Go.
set -euo pipefail
shopt -s extglob

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"

fail() {
  echo "check-image: $*" >&2
  exit 1
}

# instructions prints the Dockerfile without comments, one instruction a line.
instructions() {
  sed -e '/^[[:space:]]*#/d' Dockerfile | sed -e ':a' -e '/\\$/{N;s/\\\n[[:space:]]*//;ba' -e '}'
}

# pattern_to_regex turns a .dockerignore pattern into a regular expression that
# matches the path itself and everything below it.
pattern_to_regex() {
  local pattern=${1%/} out="" rest
  rest=${pattern#/}
  while [[ -n $rest ]]; do
    case $rest in
      '**/'*) out+='(.*/)?' rest=${rest#'**/'} ;;
      '**'*) out+='.*' rest=${rest#'**'} ;;
      '*'*) out+='[^/]*' rest=${rest#'*'} ;;
      '?'*) out+='[^/]' rest=${rest#'?'} ;;
      [.+\(\)\{\}^\$\|]*) out+="\\${rest:0:1}" rest=${rest:1} ;;
      *) out+=${rest:0:1} rest=${rest:1} ;;
    esac
  done
  printf '^%s(/.*)?$' "$out"
}

rules=()
while IFS= read -r line || [[ -n $line ]]; do
  line=${line%%+([[:space:]])}
  [[ -z $line || $line == '#'* ]] && continue
  if [[ $line == '!'* ]]; then
    rules+=("+$(pattern_to_regex "${line#!}")")
  else
    rules+=("-$(pattern_to_regex "$line")")
  fi
done <.dockerignore

# in_context says whether a file goes to the builder: the last rule wins.
in_context() {
  local rule verdict=0
  for rule in "${rules[@]}"; do
    if [[ $1 =~ ${rule:1} ]]; then
      [[ $rule == +* ]] && verdict=0 || verdict=1
    fi
  done
  return $verdict
}

# stage copies what one COPY source brings into $work/src.
stage() {
  local source=${1%/} file count=0
  [[ -e $source ]] || fail "the Dockerfile copies $source, which does not exist"
  while IFS= read -r file; do
    in_context "$file" || continue
    mkdir -p "$work/src/$(dirname "$file")"
    cp "$file" "$work/src/$file"
    count=$((count + 1))
  done < <(find "$source" -type f)
  ((count > 0)) || fail "the Dockerfile copies $source, but .dockerignore leaves nothing of it"
}

while read -r -a words; do
  [[ ${words[0]:-} == COPY ]] || continue
  sources=()
  for word in "${words[@]:1:${#words[@]}-2}"; do
    [[ $word == --from=* ]] && continue 2 # from another stage, not from here
    [[ $word == --* ]] || sources+=("$word")
  done
  for source in "${sources[@]}"; do
    stage "$source"
  done
done < <(instructions)

image=$(instructions | sed -n 's/^FROM .*golang:\([0-9]*\.[0-9]*\).*/\1/p')
module=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
[[ $image == "$module" ]] || fail "the Dockerfile builds with Go ${image:-?}, go.mod wants $module"

build=$(instructions | sed -n 's/^RUN .*\(CGO_ENABLED=.* go build .*\)$/\1/p')
[[ -n $build ]] || fail "no build command found in the Dockerfile"
[[ $build == *"-o /out/manager "* ]] || fail "the build command does not write /out/manager"

# number prints the little-endian number of $3 bytes at offset $2 of file $1.
number() {
  local value=0 shift=0 byte
  for byte in $(od -An -v -tu1 -j"$2" -N"$3" "$1"); do
    value=$((value | byte << shift))
    shift=$((shift + 8))
  done
  echo "$value"
}

# check_elf fails unless file $1 is an ELF executable of machine $2 that asks for
# no interpreter and has nothing to link at run time.
check_elf() {
  local offset size count i type
  [[ $(od -An -v -tx1 -N4 "$1" | tr -d ' ') == 7f454c46 ]] || fail "$1 is not an ELF file"
  [[ $(number "$1" 18 2) == "$2" ]] || fail "$1 is of machine $(number "$1" 18 2), not $2"
  offset=$(number "$1" 32 8) size=$(number "$1" 54 2) count=$(number "$1" 56 2)
  for ((i = 0; i < count; i++)); do
    type=$(number "$1" $((offset + i * size)) 4)
    [[ $type != 2 && $type != 3 ]] || fail "$1 is not linked statically"
  done
}

check() {
  local arch=$1 machine=$2 out=$work/$1 info setting
  mkdir -p "$out"
  (
    cd "$work/src"
    VERSION=check TARGETOS=linux TARGETARCH=$arch eval "${build/-o \/out\//-o \"\$out\"/}"
  ) || fail "the build for linux/$arch failed"
  check_elf "$out/manager" "$machine"
  info=$(go version -m "$out/manager")
  for setting in GOOS=linux "GOARCH=$arch" CGO_ENABLED=0 -trimpath=true; do
    grep -q -F -e "$setting" <<<"$info" || fail "linux/$arch was not built with $setting"
  done
  if grep -q -a -F -e "$work/src" "$out/manager"; then
    fail "the binary for linux/$arch names the directory that it was built in"
  fi
  echo "linux/$arch: static, $(($(wc -c <"$out/manager") / 1024 / 1024)) MiB"
}

check amd64 62
check arm64 183
