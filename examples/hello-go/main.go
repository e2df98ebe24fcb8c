// A greeting in Go: a WASI command, as `go build` makes it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	params := struct {
		Name string `json:"name"`
	}{Name: "stranger"}
	if err := json.NewDecoder(os.Stdin).Decode(&params); err != nil {
		answer(map[string]string{"error": err.Error()})
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "greeting %s\n", params.Name) // a line of the activation's log
	answer(map[string]string{"greeting": fmt.Sprintf("Hello, %s!", params.Name)})
}

// The last line of stdout is the result.
func answer(value any) {
	json.NewEncoder(os.Stdout).Encode(value)
}
