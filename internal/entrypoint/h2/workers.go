package h2

import (
	"sync"
	"time"
)

// task is something for a worker: a request to serve, or a connection to
// write.
type task struct {
	stream *stream
	flush  *conn
}

func (t task) do() {
	if t.flush != nil {
		t.flush.flushAll()
		return
	}
	t.stream.run()
}

// workers are goroutines kept for the next task, with the stacks they have
// grown. The one that rested last works first; those that nothing needed for a
// while go.
type workers struct {
	mu     sync.Mutex
	idle   []chan task
	unused int // the fewest idle ones since the last look
	timer  *time.Timer
	closed bool
}

// restTime is how long an unneeded worker stays, at least.
const restTime = 2 * time.Second

// run has a worker do the task.
func (w *workers) run(t task) {
	w.mu.Lock()
	n := len(w.idle) - 1
	if n < 0 {
		w.mu.Unlock()
		go w.work(t)
		return
	}
	ch := w.idle[n]
	w.idle = w.idle[:n]
	w.unused = min(w.unused, n)
	w.mu.Unlock()
	ch <- t
}

func (w *workers) work(t task) {
	ch := make(chan task, 1)
	for ok := true; ok; t, ok = <-ch {
		t.do()
		if !w.rest(ch) {
			return
		}
	}
}

// rest puts a worker among the idle ones.
func (w *workers) rest(ch chan task) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.idle = append(w.idle, ch)
	if w.timer == nil {
		w.timer = time.AfterFunc(restTime, w.look)
	}
	return true
}

// look sends away the workers that were idle all the time since the last look.
func (w *workers) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.idle[:w.unused] {
		close(ch)
	}
	kept := copy(w.idle, w.idle[w.unused:])
	clear(w.idle[kept:])
	w.idle = w.idle[:kept]
	w.unused = kept
	if w.timer = nil; kept > 0 && !w.closed {
		w.timer = time.AfterFunc(restTime, w.look)
	}
}

// close sends all away as they become idle.
func (w *workers) close() {
	w.mu.Lock()
	w.closed, w.unused = true, len(w.idle)
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.look()
}
