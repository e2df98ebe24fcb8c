//go:build wasip1 && !wisp_command

package wisp

import "unsafe"

var (
	params []byte // where the host writes
	result []byte // where the host reads, until it asks for room again
)

//go:wasmexport wisp_alloc
func wispAlloc(size uint32) unsafe.Pointer {
	result = nil
	if uint32(cap(params)) < size || params == nil {
		params = make([]byte, max(size, 4096))
	}
	return unsafe.Pointer(unsafe.SliceData(params))
}

//go:wasmexport wisp_run
func wispRun(_ unsafe.Pointer, size uint32) uint64 {
	result = call(params[:size])
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(result))))<<32 | uint64(len(result))
}

// Command does nothing in a reactor: the host calls the action itself.
func Command() {}

//go:wasmimport wisp context_get
func contextGet(name unsafe.Pointer, nameLen uint32, buffer unsafe.Pointer, bufferLen uint32) int32

// Context is a variable of the activation, as __OW_TRANSACTION_ID or an init parameter; empty when it is not set. Unlike
// os.Getenv it is right in an instance that is used again.
func Context(name string) string {
	buffer := make([]byte, 128)
	for {
		size := contextGet(
			unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)),
			unsafe.Pointer(unsafe.SliceData(buffer)), uint32(len(buffer)),
		)
		if size < 0 {
			return ""
		}
		if int(size) <= len(buffer) {
			return string(buffer[:size])
		}
		buffer = make([]byte, size)
	}
}
