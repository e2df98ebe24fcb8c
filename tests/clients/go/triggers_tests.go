package main

import (
	"encoding/json"

	"github.com/apache/openwhisk-client-go/whisk"
)

var triggerTenant = newTenant("go-triggers")

func triggerName(one whisk.Trigger) string { return one.Name }
func ruleName(one whisk.Rule) string       { return one.Name }

// A rule as wsk sends it.
func rule(name, trigger, action string) *whisk.Rule {
	return &whisk.Rule{Name: name, Status: "", Trigger: trigger, Action: action, Publish: pointer(false)}
}

var triggerTests = []test{
	{"triggers: Insert, Get and List", func() {
		c := triggerTenant().client()
		made, _, err := c.Triggers.Insert(&whisk.Trigger{
			Name:        "t",
			Parameters:  pairs(object{"bound": 1}),
			Annotations: pairs(object{"description": "ours"}),
		}, false)
		check(err)
		c.fits(&whisk.Trigger{})
		equal(made.Namespace, "go-triggers")
		equal(made.Version, "0.0.1")
		truth(made.Limits != nil, "no limits")
		_, _, err = c.Triggers.Insert(&whisk.Trigger{Name: "t"}, false)
		refused(err, 409, "resource already exists")
		updated, _, err := c.Triggers.Insert(&whisk.Trigger{Name: "t", Parameters: pairs(object{"bound": 2})}, true)
		check(err)
		equal(updated.Version, "0.0.2")
		equal(updated.Annotations.GetValue("description"), "ours")
		got, _, err := c.Triggers.Get("t")
		check(err)
		same(got.Parameters, []object{{"key": "bound", "value": 2}})
		rows, _, err := c.Triggers.List(&whisk.TriggerListOptions{Limit: 5})
		check(err)
		c.fits(&[]whisk.Trigger{})
		equal(names(rows, triggerName), []string{"t"})
	}},
	{"triggers: Fire without a rule starts nothing", func() {
		c := triggerTenant().client()
		fired, response, err := c.Triggers.Fire("t", object{"n": 1})
		check(err)
		equal(response.StatusCode, 204)
		equal(fired.ActivationId, "")
		_, _, err = c.Triggers.Fire("nobody", object{})
		refused(err, 404, missing)
	}},
	{"rules: Insert, Get and List", func() {
		c := triggerTenant().client()
		_, _, err := c.Actions.Insert(&whisk.Action{Name: "echo", Exec: echo()}, false)
		check(err)
		made, _, err := c.Rules.Insert(rule("r", "/_/t", "/_/echo"), false)
		check(err)
		c.fits(&whisk.Rule{})
		equal(made.Status, "active")
		same(made.Trigger, object{"path": "go-triggers", "name": "t"})
		same(made.Action, object{"path": "go-triggers", "name": "echo"})
		_, _, err = c.Rules.Insert(rule("r", "/_/t", "/_/echo"), false)
		refused(err, 409, "resource already exists")
		_, _, err = c.Rules.Insert(rule("x", "/_/nobody", "/_/echo"), false)
		refused(err, 400, "does not exist")
		got, _, err := c.Rules.Get("r")
		check(err)
		equal(got.Status, "active")
		rows, _, err := c.Rules.List(&whisk.RuleListOptions{})
		check(err)
		c.fits(&[]whisk.Rule{})
		equal(names(rows, ruleName), []string{"r"})
		equal(rows[0].Status, "")
		trigger, _, err := c.Triggers.Get("t")
		check(err)
		same(trigger.Rules, object{"go-triggers/r": object{"action": object{"path": "go-triggers", "name": "echo"}, "status": "active"}})
	}},
	{"triggers: Fire runs the action, and the record says so", func() {
		c := triggerTenant().client()
		fired, response, err := c.Triggers.Fire("t", object{"n": 2})
		check(err)
		c.fits(&whisk.Trigger{})
		equal(response.StatusCode, 202)
		equal(len(fired.ActivationId), 32)
		var record *whisk.Activation
		eventually("the record of the trigger", func() bool {
			record, _, err = c.Activations.Get(fired.ActivationId)
			return err == nil && len(record.Logs) == 1
		})
		same(record.Result, object{"n": 2})
		var line struct {
			ActivationID, Rule, Action string
			Success                    bool
		}
		check(json.Unmarshal([]byte(record.Logs[0]), &line))
		equal(line.Rule, "go-triggers/r")
		equal(line.Success, true)
		eventually("the record of the action", func() bool {
			ran, _, err := c.Activations.Get(line.ActivationID)
			return err == nil && ran.Name == "echo" && ran.Success
		})
	}},
	{"rules: SetState", func() {
		c := triggerTenant().client()
		for _, state := range []string{"inactive", "inactive", "active", "active", "inactive"} {
			_, response, err := c.Rules.SetState("r", state)
			check(err)
			equal(response.StatusCode, 200)
			equal(string(c.last.body), "")
			got, _, err := c.Rules.Get("r")
			check(err)
			equal(got.Status, state)
		}
		_, response, err := c.Triggers.Fire("t", object{})
		check(err)
		equal(response.StatusCode, 204)
		_, _, err = c.Rules.SetState("nobody", "active")
		refused(err, 404, missing)
	}},
	{"rules: an update keeps the state and moves the link", func() {
		c := triggerTenant().client()
		_, _, err := c.Triggers.Insert(&whisk.Trigger{Name: "u"}, false)
		check(err)
		moved, _, err := c.Rules.Insert(rule("r", "/_/u", "/go-triggers/echo"), true)
		check(err)
		equal(moved.Status, "inactive")
		equal(moved.Version, "0.0.2")
		trigger, _, err := c.Triggers.Get("t")
		check(err)
		equal(len(trigger.Rules), 0)
	}},
	{"triggers and rules: Delete", func() {
		c := triggerTenant().client()
		_, _, err := c.Triggers.Delete("u")
		check(err)
		c.fits(&whisk.Trigger{})
		_, _, err = c.Rules.SetState("r", "active")
		refused(err, 404, "Only rules with existing triggers can be activated")
		_, err = c.Rules.Delete("r")
		check(err)
		_, _, err = c.Rules.Get("r")
		refused(err, 404, missing)
		_, _, err = c.Triggers.Delete("u")
		refused(err, 404, missing)
	}},
}
