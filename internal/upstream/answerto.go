package upstream

import (
	"errors"
	"io"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// answerTo passes the answer on to a client that does not speak HTTP/1.1.
func (r *relay) answerTo(s *server) {
	x := r.x
	x.To.Begin(&r.res)
	if err := r.contentTo(x.To); err != nil {
		x.Broken, r.odd = true, true
		if !r.left.Load() && !errors.Is(err, errClient) {
			r.pool.cutShort(s, err)
		}
	} else {
		x.To.End(r.trailer())
	}
	r.end()
}

// contentTo is content for such a client.
func (r *relay) contentTo(to wire.Answerer) error {
	for {
		piece, err := r.received()
		if piece == nil && err == nil {
			if to.Flush() != nil {
				return errClient
			}
			piece, err = r.next()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		r.x.Sent += int64(len(piece))
		if _, err := to.Write(piece); err != nil {
			return errClient
		}
	}
}

// refuseTo gives such a client an answer of ours, head and content.
func refuseTo(x *wire.Exchange, head []byte, content string) {
	res := parseOwn(head, x.Edits)
	x.To.Begin(&res)
	if x.Req.Kind() != http1.MethodHead {
		x.Sent = int64(len(content))
		if _, err := x.To.Write([]byte(content)); err != nil {
			x.Broken = true
		}
	}
}

// parseOwn reads the head of an answer of ours, and edits it.
func parseOwn(head []byte, edits [][]http1.Edit) (res http1.Response) {
	res.Reset()
	if n, why := res.Parse(head, len(head), http1.Asked{}); n == 0 || why != 0 {
		panic("upstream: our own refusal does not parse: " + why.Error())
	}
	if len(edits) > 0 {
		res.Edit(nil, edits)
	}
	return res
}

// closeBody ends reading of a body by another goroutine.
func closeBody(x *wire.Exchange) func() {
	if x.To == nil {
		return x.Conn.Interrupt
	}
	if c, ok := x.Body.(io.Closer); ok {
		return func() { c.Close() }
	}
	return nil
}
