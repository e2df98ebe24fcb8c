#!/usr/bin/env bash
# Builds the Python engine, engine.wasm.zst, from sources: CPython and zlib from Debian's archive, tzdata from PyPI, and what
# is beside this file. Three minutes on two cores; a second run builds only what changed. The same bytes come out wherever it
# runs, with the same clang, wasi-libc and zstd.
#
# Needs (Debian 12 names): clang-22 lld-22 llvm-22 libclang-rt-22-dev-wasm32 wasi-libc (bookworm-backports) gcc make zstd
# python3 curl nodejs npm. Everything is made in $BUILD (default: ./build, ignored by git).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${BUILD:-$here/build}
jobs=${JOBS:-$(nproc)}

python=3.13.15
python_sha256=1e66a7945a48390ee4c2a4268a0e4185884059a13c4aab6d148aa208deea4a76
zlib=1.3.1
zlib_sha256=60dd315c07f616887caa029408308a018ace66e3d142726a97db164b3b8f69fb
tzdata=2026.6
wizer=@bytecodealliance/wizer-linux-x64@11.0.3
debian=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

# Dates that compilers write into what they make.
export SOURCE_DATE_EPOCH=1767225600
# Nothing is installed for anybody.
export PIP_ROOT_USER_ACTION=ignore

mkdir -p "$build"
cd "$build"

source_of() { # folder, url, sha256
  [ -e "$1/.complete" ] && return
  curl -fsSL -o "$1.tar" "$2"
  echo "$3  $1.tar" | sha256sum -c - >/dev/null
  rm -rf "$1" && mkdir "$1" && tar xf "$1.tar" -C "$1" --strip-components=1
  touch "$1/.complete"
}

# --- sources ---
source_of cpython "$debian/pool/main/p/python3.13/python3.13_$python.orig.tar.xz" "$python_sha256"
source_of zlib "$debian/pool/main/z/zlib/zlib_1.3.dfsg+really$zlib.orig.tar.gz" "$zlib_sha256"
[ -d "tzdata-$tzdata" ] || python3 -m pip install -q --no-deps --target "tzdata-$tzdata" "tzdata==$tzdata"
[ -d node_modules ] || npm install --no-save --silent "$wizer"
# The parser counts its own depth; 2,000 rules fit into the host's stack (sandbox.large_stack_kib), 4,000 do not.
sed -i 's/MAXSTACK 4000/MAXSTACK 2000/' cpython/Parser/parser.c

# --- a C library for wasm32-wasip1, as clang looks for it ---
libc=${WASI_LIBC:-/usr}
mkdir -p sysroot/include sysroot/lib
ln -sfn "$libc/include/wasm32-wasi" sysroot/include/wasm32-wasip1
ln -sfn "$libc/lib/wasm32-wasi" sysroot/lib/wasm32-wasip1
cc="clang-22 --target=wasm32-wasip1 --sysroot=$build/sysroot -fuse-ld=$(command -v wasm-ld-22) -Wno-unused-command-line-argument"

# --- CPython for this machine: it compiles the library and helps to build the other ---
if [ ! -x native/python ]; then
  mkdir -p native
  (cd native && ../cpython/configure -q --disable-test-modules --without-ensurepip --without-doc-strings CFLAGS="-O0 -g0 -w" OPT="" &&
    make -s -j"$jobs" python) >native.log 2>&1 || { tail -n 20 native.log >&2; exit 1; }
fi

# --- zlib ---
if [ ! -e libz.a ]; then
  for name in adler32 crc32 compress deflate inffast inflate inftrees trees uncompr zutil; do
    $cc -O2 -w -DHAVE_UNISTD_H -c "zlib/$name.c" -o "zlib/$name.o"
  done
  llvm-ar-22 rcs libz.a zlib/*.o
fi

# --- CPython for WebAssembly: one library, all modules inside, nothing loaded at run time ---
if [ ! -e cross/Makefile ]; then
  mkdir -p cross
  (
    cd cross
    export CONFIG_SITE=$build/cpython/Tools/wasm/config.site-wasm32-wasi
    export CC=$cc CPP="$cc -E" AR=llvm-ar-22 RANLIB=llvm-ranlib-22 PKG_CONFIG=false
    # Hashes of texts are engine/hash.c's (Py_HASH_EXTERNAL).
    export CFLAGS="-g0 -w -DPy_HASH_ALGORITHM=0" OPT="-DNDEBUG -O2"
    export ZLIB_CFLAGS="-I$build/zlib" ZLIB_LIBS="$build/libz.a"
    # What needs sockets, processes, terminals or shared libraries.
    for module in _ctypes _socket _posixsubprocess termios fcntl mmap resource readline _sqlite3 select; do
      export "py_cv_module_$module=n/a"
    done
    ../cpython/configure -q --host=wasm32-wasip1 --build="$(gcc -dumpmachine)" --with-build-python="$build/native/python" \
      --disable-test-modules --without-doc-strings --with-pymalloc --without-mimalloc --disable-ipv6
  ) >cross.log 2>&1 || { tail -n 20 cross.log >&2; exit 1; }
fi
make -s -C cross -j"$jobs" libpython3.13.a Modules/_decimal/libmpdec/libmpdec.a Modules/expat/libexpat.a \
  Modules/_hacl/libHacl_Hash_SHA2.a >>cross.log 2>&1 || { tail -n 20 cross.log >&2; exit 1; }

# --- the standard library and ours, compiled ---
rm -rf stage && mkdir -p stage/lib stage/build
native/python -E "$here/archive.py" cpython/Lib "tzdata-$tzdata/tzdata" "$here/lib" stage/build/stdlib.bin
# What is needed until the archive can be read.
cp -r cpython/Lib/encodings stage/lib/
cp "$here/lib/_wisp_archive.py" stage/lib/
# Bytecode with the times of this build is nothing that the image should have seen.
find stage -name __pycache__ -prune -exec rm -r {} +

# --- the engine ---
for part in engine/engine engine/hash ../still; do
  $cc -O2 -Wall -DNDEBUG -ffile-prefix-map="$here=." -Icpython/Include -Icpython/Include/internal -Icross -DPy_BUILD_CORE=1 -DPy_HASH_ALGORITHM=0 -D_WASI_EMULATED_SIGNAL \
    -c "$here/$part.c" -o "$(basename $part).o"
done
$cc -nostartfiles -Wl,--no-entry -Wl,--export-memory -Wl,-z,stack-size=2097152 -Wl,--stack-first -Wl,--gc-sections -Wl,--strip-all \
  -Wl,--wrap=__wasi_clock_time_get -Wl,--wrap=__wasi_random_get \
  -Wl,--wrap=__wasi_fd_filestat_get -Wl,--wrap=__wasi_path_filestat_get \
  engine.o hash.o still.o cross/libpython3.13.a cross/Modules/_decimal/libmpdec/libmpdec.a cross/Modules/expat/libexpat.a \
  cross/Modules/_hacl/libHacl_Hash_SHA2.a libz.a \
  -ldl -lwasi-emulated-signal -lwasi-emulated-getpid -lwasi-emulated-process-clocks -lm -o raw.wasm

# --- its image: the interpreter started, the usual modules imported ---
node_modules/@bytecodealliance/wizer-linux-x64/wizer raw.wasm -o engine.wasm --init-func wisp_init --allow-wasi \
  --preload "wisp=$here/engine/imports.wat" --mapdir /usr/local/lib/python3.13::stage/lib --mapdir /build::stage/build
zstd -q -f -"${LEVEL:-19}" engine.wasm -o "$here/engine.wasm.zst"
ls -l raw.wasm engine.wasm "$here/engine.wasm.zst"
