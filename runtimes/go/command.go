//go:build !wasip1 || wisp_command

package wisp

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// Command runs the action once: parameters from standard input, the result to standard output, as its last line.
func Command() {
	params, err := io.ReadAll(os.Stdin)
	output := []byte(nil)
	if err != nil {
		output = failed(err)
	} else {
		output = call(params)
	}
	// One line, whatever the action made of it.
	fmt.Printf("\n%s\n", bytes.ReplaceAll(output, []byte("\n"), []byte(" ")))
}

// Context is a variable of the activation, as __OW_TRANSACTION_ID or an init parameter; empty when it is not set.
func Context(name string) string { return os.Getenv(name) }
