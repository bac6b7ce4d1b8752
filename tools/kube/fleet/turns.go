package main

import (
	"net/http"
	"runtime"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// turns lets all members together work on few requests at a time, and the others wait. A machine that
// works on a thousand at once is done no sooner, and answers no ping meanwhile: connections would be
// given up that are well.
type turns chan struct{}

func newTurns() turns {
	return make(turns, 4*runtime.GOMAXPROCS(0))
}

// of lets requests wait for their turn; watches have none, since they do not end.
func (t turns) of(next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
		if info, known := request.RequestInfoFrom(r.Context()); !known || info.Verb != "watch" {
			t <- struct{}{}
			defer func() { <-t }()
		}
		next.ServeHTTP(writer, r)
	})
}
