package main

import (
	"strings"
	"time"

	"github.com/apache/openwhisk-client-go/whisk"
)

var activationTenant = newTenant("go-activations")

// Calls it and waits for the end; its id.
func call(c client, name string, params object) string {
	answer, response, err := c.Actions.Invoke(name, params, true, false)
	if err != nil && response == nil {
		panic(err)
	}
	return answer.(map[string]any)["activationId"].(string)
}

func activationID(row whisk.Activation) string { return row.ActivationID }

var activationTests = []test{
	{"activations: Get, Logs and Result", func() {
		c := activationTenant().client()
		for name, exec := range map[string]*whisk.Exec{"echo": echo(), "fails": answers(`{"error":"never"}`)} {
			_, _, err := c.Actions.Insert(&whisk.Action{Name: name, Exec: exec}, false)
			check(err)
		}
		id := call(c, "echo", object{"n": 1})
		got, _, err := c.Activations.Get(id)
		check(err)
		c.fits(&whisk.Activation{})
		equal(got.ActivationID, id)
		equal(got.Namespace, "go-activations")
		equal(got.Name, "echo")
		equal(got.StatusCode, 0)
		equal(got.Success, true)
		same(got.Result, object{"n": 1})
		truth(got.End >= got.Start && got.Start > 1_600_000_000_000, "times")
		equal(got.Annotations.GetValue("kind"), "wasm:1")
		logs, _, err := c.Activations.Logs(id)
		check(err)
		c.fits(&whisk.Activation{})
		equal(logs.Logs, []string{})
		result, _, err := c.Activations.Result(id)
		check(err)
		c.fits(&whisk.Response{})
		same(result.Result, object{"n": 1})
		equal(result.Status, "success")
	}},
	{"activations: a failure is read without being one", func() {
		c := activationTenant().client()
		id := call(c, "fails", object{})
		got, _, err := c.Activations.Get(id)
		check(err)
		equal(got.StatusCode, 1)
		same(got.Result, object{"error": "never"})
		result, _, err := c.Activations.Result(id)
		check(err)
		equal(result.Success, false)
	}},
	{"activations: List, rows and whole records", func() {
		c := activationTenant().client()
		rows, _, err := c.Activations.List(&whisk.ActivationListOptions{Limit: 2})
		check(err)
		c.fits(&[]whisk.Activation{})
		equal(names(rows, func(row whisk.Activation) string { return row.Name }), []string{"fails", "echo"})
		equal(rows[0].StatusCode, 1)
		row := whisk.ActivationFilteredRow{Row: rows[0], RowFmt: "%d-%02d-%02d %02d:%02d:%02d %s %s %s %s %s %"}
		truth(strings.Contains(row.ToSummaryRowString(), "application error"), row.ToSummaryRowString())
		docs, _, err := c.Activations.List(&whisk.ActivationListOptions{Limit: 0, Docs: true})
		check(err)
		same(docs[len(docs)-1].Result, object{"n": 1})
	}},
	{"activations: List by name, time and page; Count", func() {
		c := activationTenant().client()
		time.Sleep(2 * time.Millisecond)
		id := call(c, "echo", object{"n": 2})
		last, _, err := c.Activations.Get(id)
		check(err)
		list := func(options whisk.ActivationListOptions) []string {
			rows, _, err := c.Activations.List(&options)
			check(err)
			return names(rows, activationID)
		}
		equal(list(whisk.ActivationListOptions{Since: last.Start}), []string{id})
		equal(len(list(whisk.ActivationListOptions{Upto: last.Start - 1})), 2)
		equal(list(whisk.ActivationListOptions{Name: "echo", Limit: 1}), []string{id})
		equal(len(list(whisk.ActivationListOptions{Name: "echo", Skip: 1})), 1)
		equal(list(whisk.ActivationListOptions{Name: "nobody"}), []string{})
		count, _, err := c.Activations.Count(&whisk.ActivationCountOptions{Name: "echo"})
		check(err)
		c.fits(&whisk.ActivationCount{})
		equal(count.Activations, int64(2))
		count, _, err = c.Activations.Count(&whisk.ActivationCountOptions{Skip: 1, Since: last.Start})
		check(err)
		equal(count.Activations, int64(0))
	}},
	{"activations: what is not there", func() {
		c := activationTenant().client()
		_, _, err := c.Activations.Get(strings.Repeat("0", 32))
		refused(err, 404, missing)
		_, _, err = c.Activations.Logs(strings.Repeat("0", 32))
		refused(err, 404, missing)
		_, _, err = c.Activations.Result("abc")
		refused(err, 400, "Activation id length is 3 but must be 32.")
	}},
}
