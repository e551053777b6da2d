package cert

import (
	"context"
	"errors"
	"sync"
	"time"
)

// answerLimit is how long the end of the process waits for an answer that is on
// its way. Who ends processes is seldom patient: container engines kill after 10 s.
const answerLimit = 8 * time.Second

// ErrEnding is what Request.Await says once the process was asked to end.
var ErrEnding = errors.New("not sent: this process is about to end")

// parting is how the lease of a turn ends with its process: at once, but for an
// answer that is on its way and that nobody could ask for again. A lease that
// is lost ends whatever is awaited: it descends from ctx, and ends by itself.
type parting struct {
	process context.Context
	ctx     context.Context // for Acquire
	cancel  context.CancelCauseFunc
	unhook  func() bool

	mu       sync.Mutex
	awaiting bool
	limit    *time.Timer // of waiting; nil: nobody waits
}

func newParting(process context.Context) *parting {
	p := &parting{process: process}
	p.ctx, p.cancel = context.WithCancelCause(context.WithoutCancel(process))
	p.unhook = context.AfterFunc(process, p.ask)
	return p
}

// ask is the process's wish to end.
func (p *parting) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.awaiting {
		p.cancel(context.Cause(p.process))
		return
	}
	p.limit = time.AfterFunc(answerLimit, func() { p.cancel(context.Cause(p.process)) })
}

// await is Request.Await.
func (p *parting) await() (answered func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process.Err() != nil {
		return nil, ErrEnding
	}
	p.awaiting = true
	return p.answered, nil
}

func (p *parting) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaiting = false
	if p.process.Err() != nil {
		p.cancel(context.Cause(p.process))
	}
}

// over is the end of the turn.
func (p *parting) over() {
	p.unhook()
	p.answered()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.limit != nil {
		p.limit.Stop()
	}
	p.cancel(nil)
}
