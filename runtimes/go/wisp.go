// Package wisp makes a Go program an action for Wisp: a function from JSON to JSON.
//
//	package main
//
//	import "wisp"
//
//	type Params struct {
//		Name string `json:"name"`
//	}
//
//	func greet(params Params) (map[string]string, error) {
//		if params.Name == "" {
//			params.Name = "stranger"
//		}
//		return map[string]string{"greeting": "Hello, " + params.Name + "!"}, nil
//	}
//
//	func init() { wisp.Handle(greet) }
//
//	func main() { wisp.Command() }
//
// Built as a reactor, the program starts once and then serves one activation after the other, as long as its instance
// stays warm:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o action.wasm .
//
// The same source built as a command starts anew for every activation, which takes Go's runtime some milliseconds, and is
// also a program that can be tried with `go run . <params.json`:
//
//	GOOS=wasip1 GOARCH=wasm go build -tags wisp_command -o action.wasm .
//
// Package-level variables keep their values between the activations of an instance, which serves one at a time. What is
// written to standard output and standard error is the activation's log. A panic ends the instance; the next activation
// gets a new one. Goroutines run while an activation does, and stand still between two.
package wisp

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Error is an error that carries more than a message: the caller sees {"error": Value}.
type Error struct {
	Value any
}

func (e Error) Error() string {
	text, err := json.Marshal(e.Value)
	if err != nil {
		return fmt.Sprint(e.Value)
	}
	return string(text)
}

// The action, from bytes to bytes.
var action func(params []byte) []byte

// Handle makes a function the action. It must be called in an init function, once.
//
// The parameters, a JSON object, become a P; what the function returns must become a JSON object or an array. An error is an
// application error: {"error": "its message"}, or the value of an [Error].
func Handle[P, R any](function func(params P) (R, error)) {
	HandleRaw(func(input []byte) ([]byte, error) {
		var params P
		if err := json.Unmarshal(input, &params); err != nil {
			return nil, fmt.Errorf("The parameters do not fit the action: %w", err)
		}
		result, err := function(params)
		if err != nil {
			return nil, err
		}
		output, err := json.Marshal(result)
		if err != nil {
			return nil, fmt.Errorf("The result is not JSON: %w", err)
		}
		return output, nil
	})
}

// HandleRaw is as [Handle], with JSON text in and out. The input is only valid until the function returns.
func HandleRaw(function func(params []byte) ([]byte, error)) {
	if action != nil {
		panic("wisp: Handle was called twice")
	}
	action = func(params []byte) []byte {
		output, err := function(params)
		if err == nil {
			return output
		}
		return failed(err)
	}
}

func failed(err error) []byte {
	var value any = err.Error()
	switch err := err.(type) {
	case Error:
		value = err.Value
	case *Error:
		value = err.Value
	}
	output, err := json.Marshal(map[string]any{"error": value})
	if err != nil {
		return []byte(`{"error":"The error is not JSON."}`)
	}
	return output
}

func call(params []byte) []byte {
	if action == nil {
		return []byte(`{"error":"The program has no action: call wisp.Handle in an init function."}`)
	}
	return action(params)
}

// ActivationID names this activation and no other.
func ActivationID() string { return Context("__OW_ACTIVATION_ID") }

// Namespace is who pays for this activation.
func Namespace() string { return Context("__OW_NAMESPACE") }

// Deadline is when the activation is ended if it has not ended by itself; the zero time outside Wisp.
func Deadline() time.Time {
	millis, err := strconv.ParseInt(Context("__OW_DEADLINE"), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(millis)
}
