package api

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Stats counts what /health shows. Wrap puts it around the handlers of the
// entry points; make it with NewStats.
type Stats struct {
	start  time.Time
	recent int

	mu      sync.Mutex
	current map[int]int // since the last look, as in Traefik 1.5
	total   map[int]int
	count   int
	spent   time.Duration
	errors  []RecentError // newest last
}

// RecentError is one answer of 400 or more.
type RecentError struct {
	StatusCode int       `json:"status_code"`
	Status     string    `json:"status"`
	Method     string    `json:"method"`
	Host       string    `json:"host"`
	Path       string    `json:"path"`
	Time       time.Time `json:"time"`
}

// NewStats remembers the given number of errors; 0: none.
func NewStats(recentErrors int) *Stats {
	return &Stats{start: time.Now(), recent: recentErrors, current: map[int]int{}, total: map[int]int{}}
}

// Wrap counts every answer of next.
func (s *Stats) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		method, host, path := r.Method, r.Host, r.URL.Path
		defer func() { s.Note(seen.status, time.Since(start), method, host, path) }()
		next.ServeHTTP(seen, r)
	})
}

// Note counts an answer. Of its strings copies are kept, where any are; path
// may have a query, which is not.
func (s *Stats) Note(status int, spent time.Duration, method, host, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current[status]++
	s.total[status]++
	s.count++
	s.spent += spent
	if status < http.StatusBadRequest || s.recent == 0 {
		return
	}
	if len(s.errors) == s.recent {
		s.errors = append(s.errors[:0], s.errors[1:]...)
	}
	path, _, _ = strings.Cut(path, "?")
	s.errors = append(s.errors, RecentError{
		StatusCode: status, Status: http.StatusText(status), Time: time.Now().Add(-spent),
		Method: strings.Clone(method), Host: strings.Clone(host), Path: strings.Clone(path),
	})
}

// statusWriter remembers the status; Unwrap keeps flushing and hijacking
// within reach of http.ResponseController.
type statusWriter struct {
	http.ResponseWriter
	status int
	done   bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.done && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status, w.done = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap serves http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (a *server) health(w http.ResponseWriter, _ *http.Request) {
	s := a.Stats
	s.mu.Lock()
	defer s.mu.Unlock()
	now, up := time.Now(), time.Since(s.start)
	count := 0
	for _, n := range s.current {
		count += n
	}
	average := time.Duration(0)
	if s.count > 0 {
		average = s.spent / time.Duration(s.count)
	}
	body := map[string]any{
		"pid": os.Getpid(), "uptime": up.String(), "uptime_sec": up.Seconds(),
		"time": now.String(), "unixtime": now.Unix(),
		"status_code_count": codes(s.current), "total_status_code_count": codes(s.total),
		"count": count, "total_count": s.count,
		"total_response_time": s.spent.String(), "total_response_time_sec": s.spent.Seconds(),
		"average_response_time": average.String(), "average_response_time_sec": average.Seconds(),
	}
	if s.recent > 0 {
		body["recent_errors"] = orEmpty(s.errors)
	}
	s.current = map[int]int{}
	reply(w, http.StatusOK, body)
}

func codes(counts map[int]int) map[string]int {
	out := make(map[string]int, len(counts))
	for code, n := range counts {
		out[strconv.Itoa(code)] = n
	}
	return out
}
