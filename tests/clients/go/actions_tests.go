package main

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/apache/openwhisk-client-go/whisk"
)

var actionTenant = newTenant("go-actions")

func actionName(action whisk.Action) string { return action.Name }

var actionTests = []test{
	{"info: the build is there, without credentials", func() {
		c := actionTenant().client()
		info, _, err := c.Info.Get()
		check(err)
		truth(info.Build != "" && info.BuildNo != "", "no build")
		c.fits(&whisk.Info{})
	}},
	{"namespaces: one", func() {
		c := actionTenant().client()
		all, _, err := c.Namespaces.List()
		check(err)
		equal(all, []whisk.Namespace{{Name: "go-actions"}})
	}},
	{"actions: Insert answers the entity", func() {
		c := actionTenant().client()
		made, response, err := c.Actions.Insert(&whisk.Action{
			Name:        "echo",
			Exec:        echo(),
			Parameters:  pairs(object{"bound": 1}),
			Annotations: pairs(object{"description": "echoes"}),
			Limits:      &whisk.Limits{Timeout: pointer(5000), Memory: pointer(128)},
			Publish:     pointer(false),
		}, false)
		check(err)
		c.fits(&whisk.Action{})
		equal(response.StatusCode, 200)
		equal(made.Namespace, "go-actions")
		equal(made.Version, "0.0.1")
		equal(made.Exec.Kind, "wasm:1")
		equal(*made.Exec.Code, *echo().Code)
		equal(*made.Limits.Timeout, 5000)
		equal(made.Annotations.GetValue("exec"), "wasm:1")
		equal(made.Annotations.GetValue("description"), "echoes")
		same(made.Parameters, []object{{"key": "bound", "value": 1}})
		truth(made.Updated > 1_600_000_000_000, "updated is no time in milliseconds")
	}},
	{"actions: Insert once more is refused, with overwrite it is an update", func() {
		c := actionTenant().client()
		_, _, err := c.Actions.Insert(&whisk.Action{Name: "echo", Exec: echo()}, false)
		refused(err, 409, "resource already exists")
		made, _, err := c.Actions.Insert(&whisk.Action{Name: "echo", DelAnnotations: []string{"description"}}, true)
		check(err)
		equal(made.Version, "0.0.2")
		equal(made.Annotations.GetValue("description"), nil)
		same(made.Parameters, []object{{"key": "bound", "value": 1}})
	}},
	{"actions: Insert of bytes as base64", func() {
		c := actionTenant().client()
		code := base64.StdEncoding.EncodeToString([]byte(file("examples/hello-rust/hello-rust.wasm")))
		made, _, err := c.Actions.Insert(&whisk.Action{Name: "rust", Exec: &whisk.Exec{Kind: "wasm:default", Code: &code}}, false)
		check(err)
		equal(made.Exec.Kind, "wasm:1")
		equal(*made.Exec.Binary, true)
		result, _, err := c.Actions.Invoke("rust", object{"name": "Ada"}, true, true)
		check(err)
		same(result, object{"greeting": "Hello, Ada!"})
	}},
	{"actions: Insert of what is none", func() {
		c := actionTenant().client()
		_, _, err := c.Actions.Insert(&whisk.Action{Name: "bad", Exec: &whisk.Exec{Kind: "cobol:85", Code: pointer("x")}}, false)
		refused(err, 400, "The specified runtime 'cobol:85' is not supported by this platform.")
		_, _, err = c.Actions.Insert(&whisk.Action{Name: "bad"}, false)
		refused(err, 400, "exec undefined")
		_, _, err = c.Actions.Insert(&whisk.Action{Name: "$bad", Exec: echo()}, false)
		refused(err, 400, "The name of the entity contains illegal characters.")
	}},
	{"actions: names with spaces and more", func() {
		c := actionTenant().client()
		for _, name := range []string{"a b", "a@b", "a&b", "a.b-c_d"} {
			_, _, err := c.Actions.Insert(&whisk.Action{Name: name, Exec: echo()}, false)
			check(err)
			got, _, err := c.Actions.Get(name, false)
			check(err)
			equal(got.Name, name)
			_, err = c.Actions.Delete(name)
			check(err)
		}
	}},
	{"actions: Get, with and without code", func() {
		c := actionTenant().client()
		full, _, err := c.Actions.Get("echo", true)
		check(err)
		equal(*full.Exec.Code, *echo().Code)
		lean, _, err := c.Actions.Get("echo", false)
		check(err)
		c.fits(&whisk.Action{})
		truth(lean.Exec.Code == nil, "there is code")
		equal(lean.Exec.Kind, "wasm:1")
		url, err := lean.ActionURL("https://example.com", "/api", "v1", "")
		check(err)
		equal(url, "https://example.com/api/v1/namespaces/go-actions/actions/echo")
		_, _, err = c.Actions.Get("nobody", false)
		refused(err, 404, missing)
	}},
	{"actions: List, and its pages", func() {
		c := actionTenant().client()
		rows, _, err := c.Actions.List("", &whisk.ActionListOptions{})
		check(err)
		c.fits(&[]whisk.Action{})
		equal(names(rows, actionName), []string{"rust", "echo"})
		truth(strings.Contains(rows[0].ToSummaryRowString(), "/go-actions/rust"), rows[0].ToSummaryRowString())
		rows, _, err = c.Actions.List("", &whisk.ActionListOptions{Limit: 1, Skip: 1})
		check(err)
		equal(names(rows, actionName), []string{"echo"})
		_, _, err = c.Actions.List("", &whisk.ActionListOptions{Limit: 201})
		refused(err, 400, "The value '201' is not in the range of 0 to 200 for actions.")
	}},
	{"actions: Invoke, not blocking", func() {
		c := actionTenant().client()
		answer, response, err := c.Actions.Invoke("echo", object{"n": 1}, false, false)
		check(err)
		equal(response.StatusCode, 202)
		id := answer.(map[string]any)["activationId"].(string)
		equal(len(id), 32)
		equal(response.Header.Get("X-Openwhisk-Activation-Id"), id)
		truth(response.Header.Get("X-Request-Id") != "", "no X-Request-ID")
	}},
	{"actions: Invoke, blocking: the activation; with result: the result", func() {
		c := actionTenant().client()
		answer, _, err := c.Actions.Invoke("echo", object{"n": 2}, true, false)
		check(err)
		c.fits(&whisk.Activation{})
		same(answer.(map[string]any)["response"].(map[string]any)["result"], object{"bound": 1, "n": 2})
		answer, _, err = c.Actions.Invoke("echo", object{"response": object{"success": false}}, true, true)
		check(err)
		same(answer, object{"bound": 1, "response": object{"success": false}})
	}},
	{"actions: Invoke of one that fails is an application error, and the body comes along", func() {
		c := actionTenant().client()
		_, _, err := c.Actions.Insert(&whisk.Action{Name: "fails", Exec: answers(`{"error":"no such luck"}`)}, false)
		check(err)
		answer, _, err := c.Actions.Invoke("fails", nil, true, true)
		refused(err, 502, "no such luck")
		truth(err.(*whisk.WskError).ApplicationError, "not an application error")
		same(answer, object{"error": "no such luck"})
		answer, _, err = c.Actions.Invoke("fails", object{}, true, false)
		refused(err, 502, "The following application error was received: no such luck")
		same(answer.(map[string]any)["response"].(map[string]any)["status"], "application error")
		_, _, err = c.Actions.Invoke("nobody", object{}, true, false)
		refused(err, 404, missing)
	}},
	{"actions: a sequence", func() {
		c := actionTenant().client()
		exec := &whisk.Exec{Kind: "sequence", Components: []string{"/_/echo", "/go-actions/rust"}}
		made, _, err := c.Actions.Insert(&whisk.Action{Name: "chain", Exec: exec}, false)
		check(err)
		c.fits(&whisk.Action{})
		equal(made.Exec.Components, []string{"/go-actions/echo", "/go-actions/rust"})
		result, _, err := c.Actions.Invoke("chain", object{"name": "Bob"}, true, true)
		check(err)
		same(result, object{"greeting": "Hello, Bob!"})
		exec.Components = []string{"/_/nobody"}
		_, _, err = c.Actions.Insert(&whisk.Action{Name: "bad", Exec: exec}, false)
		refused(err, 400, "Sequence component does not exist.")
	}},
	{"actions: Delete", func() {
		c := actionTenant().client()
		_, err := c.Actions.Delete("fails")
		check(err)
		c.fits(&whisk.Action{})
		_, err = c.Actions.Delete("fails")
		refused(err, 404, missing)
	}},
	{"credentials that are wrong, and none", func() {
		right := actionTenant()
		c := tenant{right.name, right.key[:len(right.key)-1] + "Q"}.client()
		_, _, err := c.Actions.List("", &whisk.ActionListOptions{})
		refused(err, 401, "The supplied authentication is invalid")
		c = tenant{right.name, ""}.client()
		_, _, err = c.Actions.List("", &whisk.ActionListOptions{})
		truth(err != nil && strings.Contains(err.Error(), "Authorization key is not configured"), "it went on without a key")
	}},
	{"headers of one's own go along", func() {
		c := actionTenant().client()
		c.AdditionalHeaders = http.Header{"X-Request-Id": []string{"mine"}}
		_, response, err := c.Actions.List("", &whisk.ActionListOptions{})
		check(err)
		equal(response.Header.Get("X-Request-Id"), "mine")
	}},
	{"sdks: what is not offered is a plain 404", func() {
		c := actionTenant().client()
		response, err := c.Sdks.Install("blackbox.tar.gz")
		check(err)
		equal(response.StatusCode, 404)
	}},
}
