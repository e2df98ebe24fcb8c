package wisp

import (
	"errors"
	"testing"
)

type greeting struct {
	Name string `json:"name"`
}

func answer(t *testing.T, function func(greeting) (map[string]string, error), params string) string {
	t.Helper()
	action = nil
	Handle(function)
	return string(call([]byte(params)))
}

func TestTheResultIsWhatTheFunctionReturns(t *testing.T) {
	greet := func(p greeting) (map[string]string, error) { return map[string]string{"hello": p.Name}, nil }
	if got := answer(t, greet, `{"name":"Ada","more":1}`); got != `{"hello":"Ada"}` {
		t.Fatal(got)
	}
	if got := answer(t, greet, `{"name":1}`); got[:len(`{"error":"The parameters do not fit`)] != `{"error":"The parameters do not fit` {
		t.Fatal(got)
	}
}

func TestErrorsAreObjectsWithTheKeyError(t *testing.T) {
	fails := func(err error) func(greeting) (map[string]string, error) {
		return func(greeting) (map[string]string, error) { return nil, err }
	}
	if got := answer(t, fails(errors.New("no \"x\"")), "{}"); got != `{"error":"no \"x\""}` {
		t.Fatal(got)
	}
	if got := answer(t, fails(Error{map[string]int{"code": 7}}), "{}"); got != `{"error":{"code":7}}` {
		t.Fatal(got)
	}
}

func TestAProgramWithoutAnActionSaysSo(t *testing.T) {
	action = nil
	if got := string(call([]byte("{}"))); got == "" || got[:9] != `{"error":` {
		t.Fatal(got)
	}
}
