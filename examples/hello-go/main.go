// A greeting in Go. Built as a reactor, so that an instance starts once and stays warm.
package main

import (
	"fmt"

	"wisp"
)

type Params struct {
	Name string `json:"name"`
}

type Greeting struct {
	Greeting string `json:"greeting"`
}

func greet(params Params) (Greeting, error) {
	if params.Name == "" {
		params.Name = "stranger"
	}
	fmt.Println("greeting", params.Name) // a line of the activation's log
	return Greeting{"Hello, " + params.Name + "!"}, nil
}

func init() { wisp.Handle(greet) }

func main() { wisp.Command() }
