package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/endpoints/request"
)

// counts is what happened at all members, by user.
type counts struct {
	mutex sync.Mutex
	// requests by user, and by what they asked for: `patch wasmplugins`, `get /version`.
	requests map[string]map[string]int
	// writes are the times at which WasmPlugins were written, by user and member.
	writes  map[string][][]time.Time
	members int
	changed chan struct{}
}

func newCounts(members int) *counts {
	return &counts{
		requests: map[string]map[string]int{},
		writes:   map[string][][]time.Time{},
		members:  members,
		changed:  make(chan struct{}),
	}
}

// of counts what one member is asked.
func (c *counts) of(member int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(writer http.ResponseWriter, r *http.Request) {
		who, _ := request.UserFrom(r.Context())
		info, _ := request.RequestInfoFrom(r.Context())
		what := info.Verb + " " + info.Path
		if info.IsResourceRequest {
			what = info.Verb + " " + info.Resource
		}
		c.asked(who.GetName(), what)
		if info.Verb != "patch" || info.Resource != "wasmplugins" {
			next.ServeHTTP(writer, r)
			return
		}
		answer := &answer{ResponseWriter: writer, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		if answer.status < http.StatusMultipleChoices {
			c.wrote(who.GetName(), member)
		}
	})
}

// answer remembers the status of an answer.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (c *counts) asked(who, what string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.requests[who] == nil {
		c.requests[who] = map[string]int{}
	}
	c.requests[who][what]++
}

func (c *counts) wrote(who string, member int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.writes[who] == nil {
		c.writes[who] = make([][]time.Time, c.members)
	}
	c.writes[who][member] = append(c.writes[who][member], time.Now())
	close(c.changed)
	c.changed = make(chan struct{})
}

// times tells for each member when this user had written so often after a time; false as long as
// one of them has fewer writes.
func (c *counts) times(who string, often int, after time.Time) ([]int64, chan struct{}, bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.writes[who] == nil {
		return nil, c.changed, false
	}
	times := make([]int64, 0, c.members)
	for _, writes := range c.writes[who] {
		first := len(writes)
		for first > 0 && writes[first-1].After(after) {
			first--
		}
		if len(writes)-first < often {
			return nil, c.changed, false
		}
		times = append(times, writes[first+often-1].UnixNano())
	}
	return times, c.changed, true
}

// control answers what happened: /requests at once; /writes?user=U&often=N&after=NANOSECONDS when
// every member was written to so often.
func (c *counts) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/requests", func(writer http.ResponseWriter, _ *http.Request) {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		_ = json.NewEncoder(writer).Encode(c.requests)
	})
	mux.HandleFunc("/writes", func(writer http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		often, err := strconv.Atoi(query.Get("often"))
		after, err2 := strconv.ParseInt(query.Get("after"), 10, 64)
		if err != nil || err2 != nil {
			http.Error(writer, "often and after are numbers", http.StatusBadRequest)
			return
		}
		for {
			times, changed, all := c.times(query.Get("user"), often, time.Unix(0, after))
			if all {
				_ = json.NewEncoder(writer).Encode(times)
				return
			}
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			}
		}
	})
	return mux
}
