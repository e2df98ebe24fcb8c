package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"time"

	"github.com/apache/openwhisk-client-go/whisk"
)

const missing = "The requested resource does not exist."

// A namespace of its own for a group of tests.
type tenant struct {
	name, key string
}

// Makes a namespace, the first time a group needs it.
func newTenant(name string) func() tenant {
	var made *tenant
	return func() tenant {
		if made == nil {
			request, err := http.NewRequest("PUT", os.Getenv("WISP_URL")+"/admin/v1/namespaces/"+name, nil)
			check(err)
			credentials := base64.StdEncoding.EncodeToString([]byte(os.Getenv("WISP_SYSTEM_KEY")))
			request.Header.Set("Authorization", "Basic "+credentials)
			response, err := http.DefaultClient.Do(request)
			check(err)
			defer response.Body.Close()
			var answer struct{ Key string }
			check(json.NewDecoder(response.Body).Decode(&answer))
			made = &tenant{name, answer.Key}
		}
		return *made
	}
}

// Remembers the last answer: the client keeps quiet about a body that does not fit its types.
type recorder struct {
	body   []byte
	header http.Header
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	r.body, err = io.ReadAll(response.Body)
	r.header = response.Header
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(r.body))
	return response, err
}

// A client as wsk makes one; a new one for every test, as it changes its own configuration.
type client struct {
	*whisk.Client
	last *recorder
}

func (t tenant) client() client {
	last := &recorder{}
	made, err := whisk.NewClient(&http.Client{Transport: last, Timeout: 90 * time.Second}, &whisk.Config{
		Host:      os.Getenv("WISP_URL"),
		AuthToken: t.key,
		Namespace: "_",
	})
	check(err)
	return client{made, last}
}

// Fails unless the last body is JSON, said to be JSON, and of the client's type.
func (c client) fits(into any) {
	if kind := c.last.header.Get("Content-Type"); kind != "application/json" {
		panic("Content-Type is " + kind)
	}
	if err := json.Unmarshal(c.last.body, into); err != nil {
		panic(fmt.Sprintf("%v: %s", err, c.last.body))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(got, want any) {
	if !reflect.DeepEqual(got, want) {
		panic(fmt.Sprintf("got  %#v\nwant %#v", got, want))
	}
}

// The same JSON, whatever the Go types.
func same(got, want any) {
	normal := func(value any) (normal any) {
		text, err := json.Marshal(value)
		check(err)
		check(json.Unmarshal(text, &normal))
		return normal
	}
	equal(normal(got), normal(want))
}

func truth(holds bool, what string) {
	if !holds {
		panic(what)
	}
}

// Fails unless err is the client's error for this status, with this text in it.
func refused(err error, status int, text string) {
	if err == nil {
		panic("it succeeded, and should not have")
	}
	refusal, ok := err.(*whisk.WskError)
	truth(ok, fmt.Sprintf("%T: %v", err, err))
	truth(strings.Contains(refusal.Error(), text), refusal.Error())
	equal(refusal.ExitCode, status-256)
}

// Asks until it is so, for ten seconds.
func eventually(what string, ask func() bool) {
	for deadline := time.Now().Add(10 * time.Second); !ask(); time.Sleep(20 * time.Millisecond) {
		truth(time.Now().Before(deadline), what+": not within ten seconds")
	}
}

// Where in the tests the failure was.
func where() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		file := filepath.Base(frame.File)
		if strings.HasSuffix(file, "_tests.go") || !more {
			return fmt.Sprintf("\n    at %s:%d", file, frame.Line)
		}
	}
}

func pointer[T any](value T) *T { return &value }

func pairs(object map[string]any) (pairs whisk.KeyValueArr) {
	for key, value := range object {
		pairs = append(pairs, whisk.KeyValue{Key: key, Value: value})
	}
	return pairs
}

func names[T any](rows []T, name func(T) string) []string {
	all := []string{}
	for _, row := range rows {
		all = append(all, name(row))
	}
	return all
}

func file(path string) string {
	text, err := os.ReadFile(filepath.Join(os.Getenv("WISP_REPOSITORY"), path))
	check(err)
	return string(text)
}

// Answers its parameters.
func echo() *whisk.Exec {
	return &whisk.Exec{Kind: "wasm:1", Code: pointer(file("tests/fixtures/guests/echo.wat"))}
}

// A module that answers text, whatever it is asked.
func answers(text string) *whisk.Exec {
	data := ""
	for _, b := range []byte(text) {
		data += fmt.Sprintf("\\%02x", b)
	}
	code := fmt.Sprintf(`(module (memory (export "memory") 1) (data (i32.const 16) "%s")
    (func (export "wisp_alloc") (param i32) (result i32) (i32.const 8192))
    (func (export "wisp_run") (param i32 i32) (result i64) (i64.const %d)))`, data, uint64(16)<<32|uint64(len(text)))
	return &whisk.Exec{Kind: "wasm:1", Code: &code}
}

type object = map[string]any
