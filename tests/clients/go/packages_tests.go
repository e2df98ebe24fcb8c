package main

import (
	"github.com/apache/openwhisk-client-go/whisk"
)

var (
	packageTenant = newTenant("go-packages")
	otherTenant   = newTenant("go-others")
)

func packageName(one whisk.Package) string { return one.Name }

func binding(name string, to whisk.Binding, parameters object) *whisk.BindingPackage {
	return &whisk.BindingPackage{Name: name, Publish: pointer(false), Parameters: pairs(parameters), Binding: to}
}

var packageTests = []test{
	{"packages: Insert answers the entity", func() {
		c := packageTenant().client()
		made, _, err := c.Packages.Insert(&whisk.Package{
			Name:        "shared",
			Publish:     pointer(true),
			Parameters:  pairs(object{"a": 1}),
			Annotations: pairs(object{"description": "ours"}),
		}, false)
		check(err)
		c.fits(&whisk.Package{})
		equal(made.Namespace, "go-packages")
		equal(*made.Publish, true)
		equal(*made.Binding, whisk.Binding{})
		same(made.Parameters, []object{{"key": "a", "value": 1}})
		_, _, err = c.Packages.Insert(&whisk.Package{Name: "shared"}, false)
		refused(err, 409, "resource already exists")
		made, _, err = c.Packages.Insert(&whisk.Package{Name: "shared", Parameters: pairs(object{"a": 2})}, true)
		check(err)
		equal(made.Version, "0.0.2")
		equal(*made.Publish, true)
		_, _, err = c.Packages.Insert(&whisk.Package{Name: "private"}, false)
		check(err)
	}},
	{"packages: actions in it, listed and called", func() {
		c := packageTenant().client()
		_, _, err := c.Actions.Insert(&whisk.Action{Name: "shared/echo", Exec: echo()}, false)
		check(err)
		_, _, err = c.Actions.Insert(&whisk.Action{Name: "shared/feed", Exec: echo(), Annotations: pairs(object{"feed": true})}, false)
		check(err)
		got, _, err := c.Packages.Get("shared")
		check(err)
		c.fits(&whisk.Package{})
		equal(names(got.Actions, actionName), []string{"echo"})
		equal(names(got.Feeds, actionName), []string{"feed"})
		rows, _, err := c.Actions.List("shared", &whisk.ActionListOptions{})
		check(err)
		equal(names(rows, actionName), []string{"feed", "echo"})
		equal(rows[0].Namespace, "go-packages/shared")
		result, _, err := c.Actions.Invoke("shared/echo", object{"n": 1}, true, true)
		check(err)
		same(result, object{"a": 2, "n": 1})
		_, _, err = c.Actions.Insert(&whisk.Action{Name: "nowhere/echo", Exec: echo()}, false)
		refused(err, 404, missing)
	}},
	{"packages: bindings, own and somebody else's", func() {
		c := packageTenant().client()
		made, _, err := c.Packages.Insert(binding("bound", whisk.Binding{Namespace: "_", Name: "shared"}, object{"b": 1}), false)
		check(err)
		c.fits(&whisk.Package{})
		equal(*made.Binding, whisk.Binding{Namespace: "go-packages", Name: "shared"})
		same(made.Annotations.GetValue("binding"), object{"namespace": "go-packages", "name": "shared"})
		result, _, err := c.Actions.Invoke("bound/echo", object{}, true, true)
		check(err)
		same(result, object{"a": 2, "b": 1})
		other := otherTenant().client()
		_, _, err = other.Packages.Insert(binding("theirs", whisk.Binding{Namespace: "go-packages", Name: "shared"}, object{"a": 9}), false)
		check(err)
		result, _, err = other.Actions.Invoke("theirs/echo", object{}, true, true)
		check(err)
		same(result, object{"a": 9})
		rows, _, err := other.Actions.List("theirs", &whisk.ActionListOptions{})
		check(err)
		equal(names(rows, actionName), []string{"feed", "echo"})
		equal(rows[0].Namespace, "go-packages/shared")
	}},
	{"packages: what a binding must not be", func() {
		c := packageTenant().client()
		bind := func(c client, to whisk.Binding) error {
			_, _, err := c.Packages.Insert(binding("x", to, nil), false)
			return err
		}
		refused(bind(c, whisk.Binding{Namespace: "_", Name: "nobody"}), 400, "Binding references a package that does not exist.")
		refused(bind(c, whisk.Binding{Namespace: "_", Name: "bound"}), 400, "Cannot bind to another package binding.")
		private := whisk.Binding{Namespace: "go-packages", Name: "private"}
		refused(bind(otherTenant().client(), private), 403, "The supplied authentication is not authorized")
		_, _, err := c.Packages.Insert(binding("private", whisk.Binding{Namespace: "_", Name: "shared"}, nil), true)
		refused(err, 409, "Resource is a package and cannot be converted into a binding.")
	}},
	{"packages: List, own ones and the public ones of another namespace", func() {
		c := packageTenant().client()
		rows, _, err := c.Packages.List(&whisk.PackageListOptions{})
		check(err)
		equal(names(rows, packageName), []string{"bound", "private", "shared"})
		equal(*rows[0].Binding, whisk.Binding{Namespace: "go-packages", Name: "shared"})
		rows, _, err = c.Packages.List(&whisk.PackageListOptions{Public: true, Limit: 1, Skip: 1})
		check(err)
		equal(names(rows, packageName), []string{"private"})
		other := otherTenant().client()
		other.Namespace = "go-packages"
		rows, _, err = other.Packages.List(&whisk.PackageListOptions{})
		check(err)
		equal(names(rows, packageName), []string{"shared"})
		_, _, err = other.Packages.Get("private")
		refused(err, 403, "The supplied authentication is not authorized")
	}},
	{"packages: those of whisk.system are there", func() {
		c := packageTenant().client()
		c.Namespace = "whisk.system"
		got, _, err := c.Packages.Get("utils")
		check(err)
		truth(len(got.Actions) >= 6, "few actions")
		result, _, err := c.Actions.Invoke("utils/sort", object{"lines": []string{"b", "a"}}, true, true)
		check(err)
		same(result, object{"lines": []string{"a", "b"}, "length": 2})
	}},
	{"packages: Refresh is not offered, and says so", func() {
		c := packageTenant().client()
		_, response, err := c.Packages.Refresh()
		truth(err != nil && (response.StatusCode == 404 || response.StatusCode == 405), "it was taken")
	}},
	{"packages: Delete", func() {
		c := packageTenant().client()
		_, err := c.Packages.Delete("shared")
		refused(err, 409, "Package not empty (contains 2 entities). Set force param or delete package contents.")
		for _, name := range []string{"shared/echo", "shared/feed"} {
			_, err = c.Actions.Delete(name)
			check(err)
		}
		_, err = c.Packages.Delete("shared")
		check(err)
		_, _, err = c.Packages.Get("shared")
		refused(err, 404, missing)
		_, err = c.Packages.Delete("bound")
		check(err)
	}},
}
