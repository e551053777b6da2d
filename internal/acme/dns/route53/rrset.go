package route53

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
)

// rrset is the content of a TXT record set; immutable.
type rrset struct {
	values []string // sorted, each once
	ttl    int64    // seconds
}

func newSet(ttl int64, values ...string) rrset {
	values = slices.Clone(values)
	slices.Sort(values)
	return rrset{slices.Compact(values), ttl}
}

func (s rrset) with(values []string, ttl int64) rrset {
	return newSet(ttl, append(slices.Clone(s.values), values...)...)
}

func (s rrset) without(values []string) rrset {
	return rrset{slices.DeleteFunc(slices.Clone(s.values), func(v string) bool { return slices.Contains(values, v) }), s.ttl}
}

func (s rrset) equal(o rrset) bool {
	return slices.Equal(s.values, o.values) && (s.ttl == o.ttl || len(s.values) == 0)
}

// wish is one value to add or to remove.
type wish struct {
	name, value string
	ttl         int64
	add         bool
	force       bool // overwrite what could not be read
}

// belief is what this process thinks of the set at a name.
type belief struct {
	set     rrset
	held    bool     // there is a belief at all
	proven  bool     // by a write of ours that succeeded, not just read
	version int      // counts corrections
	live    []string // values of ours that are not cleaned up
}

// work is the change of one name: the wishes for it, taken together.
type work struct {
	name     string
	wishes   []*pending
	from, to rrset
	upsert   bool
	version  int
}

// plan decides how the set at a name changes. With nothing believed, it is
// taken to hold what is to be removed and what else of ours is not cleaned up;
// to a process that never wrote there that means: to add to, it is absent.
func plan(b belief, wishes []wish) (from, to rrset, upsert bool) {
	var adds, removes []string
	var ttl int64
	for _, w := range wishes {
		if w.add {
			adds = append(adds, w.value)
		} else {
			removes = append(removes, w.value)
		}
		ttl = w.ttl
		upsert = upsert || w.force
	}
	switch {
	case upsert:
		return rrset{}, newSet(ttl, append(slices.Clone(b.live), adds...)...).without(removes), true
	case b.held:
		from = b.set
	default:
		from = newSet(ttl, append(slices.Clone(b.live), removes...)...)
	}
	if len(adds) == 0 {
		ttl = from.ttl
	}
	to = from.without(removes)
	return from, to.with(adds, ttl), false
}

// changes are the elements of a change batch that turn from into to, if from
// is exactly what is there.
func (w *work) changes() []types.Change {
	one := func(action types.ChangeAction, s rrset) types.Change {
		set := &types.ResourceRecordSet{Name: aws.String(w.name + "."), Type: types.RRTypeTxt, TTL: aws.Int64(s.ttl)}
		for _, v := range s.values {
			set.ResourceRecords = append(set.ResourceRecords, types.ResourceRecord{Value: aws.String(quote(v))})
		}
		return types.Change{Action: action, ResourceRecordSet: set}
	}
	if w.upsert {
		return []types.Change{one(types.ChangeActionUpsert, w.to)}
	}
	var list []types.Change
	if len(w.from.values) > 0 {
		list = append(list, one(types.ChangeActionDelete, w.from))
	}
	if len(w.to.values) > 0 {
		list = append(list, one(types.ChangeActionCreate, w.to))
	}
	return list
}

// weight is what the work costs of a change batch's limits: 1,000 values (an
// UPSERT counts twice) and 32,000 characters of them.
func (w *work) weight() (values, chars int) {
	for _, s := range []rrset{w.from, w.to} {
		values += len(s.values)
		for _, v := range s.values {
			chars += len(v) + 2
		}
	}
	if w.upsert {
		values, chars = 2*values, 2*chars
	}
	return values, chars
}

const (
	maxValues = 1000
	maxChars  = 32000
)

// chunks splits works into batches within the limits.
func chunks(works []*work) [][]*work {
	var out [][]*work
	var values, chars int
	for _, w := range works {
		v, c := w.weight()
		if len(out) == 0 || values+v > maxValues || chars+c > maxChars {
			out = append(out, nil)
			values, chars = 0, 0
		}
		out[len(out)-1] = append(out[len(out)-1], w)
		values, chars = values+v, chars+c
	}
	return out
}

// conflict says that the set was not as believed; nothing was changed.
type conflict struct {
	gone    bool // there is no set at all
	wanted  rrset
	version int
	err     error
}

func (c *conflict) Error() string { return c.err.Error() }
func (c *conflict) Unwrap() error { return c.err }

// blame finds the works a refused batch was refused for, by the messages of
// InvalidChangeBatch, and whether Route 53 has no such set. No entry: the
// messages do not say it is this work's fault.
func blame(messages []string, works []*work) map[*work]bool {
	guilty := map[*work]bool{}
	for _, m := range messages {
		m = strings.ToLower(m)
		gone := strings.Contains(m, "it was not found")
		if !gone && !strings.Contains(m, "it already exists") && !strings.Contains(m, "do not match") {
			continue
		}
		for _, w := range works {
			if strings.Contains(m, "'"+w.name+".'") || strings.Contains(m, "'"+w.name+"'") {
				guilty[w] = guilty[w] || gone
			}
		}
	}
	return guilty
}

// quote is the form of a TXT value in the API.
func quote(v string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}

// unquote undoes quote; several strings of one value are joined.
func unquote(s string) string {
	var b strings.Builder
	inside := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			inside = !inside
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case inside:
			b.WriteByte(c)
		}
	}
	return b.String()
}
