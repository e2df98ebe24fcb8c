package main

import (
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/apache/openwhisk-client-go/whisk"
)

var apiTenant = newTenant("go-apis")

// What wsk sends with every call.
func apiOptions(t tenant) whisk.ApiOptions {
	return whisk.ApiOptions{SpaceGuid: strings.Split(t.key, ":")[0], AccessToken: "DUMMY TOKEN"}
}

func api(t tenant, base, path, verb string) *whisk.ApiCreateRequest {
	return &whisk.ApiCreateRequest{ApiDoc: &whisk.Api{
		Namespace:       t.name,
		ApiName:         "Greetings",
		GatewayBasePath: base,
		GatewayRelPath:  path,
		GatewayMethod:   verb,
		Id:              "API:" + t.name + ":" + base,
		Action: &whisk.ApiAction{
			Name:          "hello",
			Namespace:     t.name,
			BackendMethod: verb,
			BackendUrl:    os.Getenv("WISP_URL") + "/api/v1/web/" + t.name + "/default/hello.json",
			Auth:          t.key,
		},
	}}
}

func fetch(verb, url string) (int, string) {
	request, err := http.NewRequest(verb, url, nil)
	check(err)
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(err)
	return response.StatusCode, string(body)
}

var apiTests = []test{
	{"apis: Insert makes one that is served", func() {
		t := apiTenant()
		c := t.client()
		_, _, err := c.Actions.Insert(&whisk.Action{
			Name: "hello", Exec: answers(`{"hi":1}`), Annotations: pairs(object{"web-export": true}),
		}, false)
		check(err)
		options := whisk.ApiCreateRequestOptions(apiOptions(t))
		options.ResponseType = "json"
		made, _, err := c.Apis.Insert(api(t, "/v1", "/hello", "get"), &options, whisk.DoNotOverwrite)
		check(err)
		c.fits(&whisk.ApiCreateResponse{})
		equal(made.Activated, true)
		equal(made.Swagger.BasePath, "/v1")
		equal(made.Swagger.Info.Title, "Greetings")
		operation := made.Swagger.Paths["/hello"].Get
		equal(operation.OperationId, "getHello")
		equal(operation.XOpenWhisk.ActionName, "hello")
		equal(operation.XOpenWhisk.Namespace, "go-apis")
		status, body := fetch("GET", made.BaseUrl+"/hello")
		equal(status, 200)
		truth(strings.Contains(body, `"hi"`), body)
		_, _, err = c.Apis.Insert(api(t, "/v1", "/hello", "post"), &options, whisk.DoNotOverwrite)
		check(err)
	}},
	{"apis: List and Get", func() {
		t := apiTenant()
		c := t.client()
		all, _, err := c.Apis.List(&whisk.ApiListRequestOptions{ApiOptions: apiOptions(t), Limit: 30})
		check(err)
		c.fits(&whisk.ApiListResponse{})
		equal(len(all.Apis), 1)
		equal(all.Apis[0].ApiId, "API:go-apis:/v1")
		equal(len(all.Apis[0].ApiValue.Swagger.Paths["/hello"].MakeOperationMap()), 2)
		options := whisk.ApiGetRequestOptions(apiOptions(t))
		options.ApiBasePath = "/v1"
		got, _, err := c.Apis.Get(&whisk.ApiGetRequest{}, &options)
		check(err)
		equal(len(got.Apis), 1)
		options.ApiBasePath = "/nothing"
		got, _, err = c.Apis.Get(&whisk.ApiGetRequest{}, &options)
		check(err)
		equal(len(got.Apis), 0)
	}},
	{"apis: what is none is refused in a form the client can print", func() {
		t := apiTenant()
		c := t.client()
		options := whisk.ApiCreateRequestOptions(apiOptions(t))
		_, _, err := c.Apis.Insert(&whisk.ApiCreateRequest{ApiDoc: &whisk.Api{Namespace: "_", Swagger: "no JSON"}}, &options, false)
		refused(err, 502, "swagger field cannot be parsed. Ensure it is valid JSON.")
		removal := whisk.ApiDeleteRequestOptions(apiOptions(t))
		removal.ApiBasePath = "/nothing"
		_, err = c.Apis.Delete(&whisk.ApiDeleteRequest{}, &removal)
		refused(err, 502, "API deletion failure: API '/nothing' does not exist.")
	}},
	{"apis: Delete an operation, then the whole", func() {
		t := apiTenant()
		c := t.client()
		options := whisk.ApiDeleteRequestOptions(apiOptions(t))
		options.ApiBasePath, options.ApiRelPath, options.ApiVerb = "/v1", "/hello", "post"
		_, err := c.Apis.Delete(&whisk.ApiDeleteRequest{}, &options)
		check(err)
		list := func() []whisk.ApiItem {
			all, _, err := c.Apis.List(&whisk.ApiListRequestOptions{ApiOptions: apiOptions(t)})
			check(err)
			return all.Apis
		}
		equal(len(list()[0].ApiValue.Swagger.Paths["/hello"].MakeOperationMap()), 1)
		options = whisk.ApiDeleteRequestOptions(apiOptions(t))
		options.ApiBasePath = "/v1"
		_, err = c.Apis.Delete(&whisk.ApiDeleteRequest{}, &options)
		check(err)
		equal(len(list()), 0)
	}},
}
