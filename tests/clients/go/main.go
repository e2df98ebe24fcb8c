// OpenWhisk's Go client, its whole surface, against a Wisp server: tests/clients/with-server.sh PROGRAM ./client [FILTER].
// Prints a line for each test and why it failed; the exit code is 1 when one did.
package main

import (
	"fmt"
	"os"
	"strings"
)

type test struct {
	name string
	run  func()
}

func main() {
	filter := strings.Join(os.Args[1:], " ")
	passed, failed := 0, 0
	for _, group := range [][]test{actionTests, activationTests, packageTests, triggerTests, apiTests} {
		for _, test := range group {
			if !strings.Contains(test.name, filter) {
				continue
			}
			if why := attempt(test.run); why != "" {
				failed++
				fmt.Printf("FAILED  %s\n%s\n", test.name, why)
			} else {
				passed++
				fmt.Printf("ok      %s\n", test.name)
			}
		}
	}
	word := "ok"
	if failed > 0 {
		word = "FAILED"
	}
	fmt.Printf("\nclient result: %s. %d passed, %d failed (openwhisk-client-go)\n", word, passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// Why a test failed, or nothing. Tests fail by panicking with what is wrong.
func attempt(run func()) (why string) {
	defer func() {
		if problem := recover(); problem != nil {
			why = fmt.Sprintf("%v%s", problem, where())
		}
	}()
	run()
	return ""
}
