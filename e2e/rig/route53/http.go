package route53

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	version   = "2013-04-01"
	namespace = "https://route53.amazonaws.com/doc/2013-04-01/"
)

// apiError is an error answer.
type apiError struct {
	status   int
	code     string
	message  string
	messages []string // of InvalidChangeBatch
}

// ServeHTTP is the API.
func (d *Double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := Call{At: time.Now()}
	lost := false
	out, bad := d.answer(r, &call, &lost)
	call.Status = http.StatusOK
	if bad != nil {
		call.Status, call.Code = bad.status, bad.code
	}
	d.mu.Lock()
	d.calls = append(d.calls, call)
	request := fmt.Sprintf("00000000-0000-4000-8000-%012d", len(d.calls))
	d.mu.Unlock()
	if lost {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", request)
	w.WriteHeader(call.Status)
	_, _ = io.WriteString(w, xml.Header)
	if bad != nil {
		_ = xml.NewEncoder(w).Encode(bad.body(request))
		return
	}
	_ = xml.NewEncoder(w).Encode(out)
}

func (e *apiError) body(request string) any {
	if e.code == "InvalidChangeBatch" {
		return invalidChangeBatch{Xmlns: namespace, Messages: e.messages, RequestID: request}
	}
	return errorResponse{Xmlns: namespace, Type: "Sender", Code: e.code, Message: e.message, RequestID: request}
}

var credential = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/[a-z0-9-]+/route53/aws4_request, SignedHeaders=\S*host\S*, Signature=[0-9a-f]{64}$`)

// answer routes a request: who asks, what for, whether the policy allows it.
func (d *Double) answer(r *http.Request, call *Call, lost *bool) (any, *apiError) {
	segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if segments[0] != version {
		return nil, &apiError{status: 404, code: "UnknownOperation", message: "no such path"}
	}
	var run func() (any, *apiError)
	arn := "*"
	switch route := r.Method + " " + strings.Join(segments[1:], "/"); {
	case route == "GET hostedzonesbyname":
		call.Action = "ListHostedZonesByName"
		run = func() (any, *apiError) { return d.listZones(r, call) }
	case r.Method == "GET" && len(segments) == 3 && segments[1] == "change":
		call.Action, call.Name = "GetChange", segments[2]
		run = func() (any, *apiError) { return d.getChange(segments[2]) }
	case len(segments) == 4 && segments[1] == "hostedzone" && segments[3] == "rrset":
		call.Zone = segments[2]
		arn = "arn:aws:route53:::hostedzone/" + call.Zone
		call.Action = "ListResourceRecordSets"
		run = func() (any, *apiError) { return d.listSets(r, call.Zone) }
		if r.Method == "POST" {
			call.Action = "ChangeResourceRecordSets"
			run = func() (any, *apiError) { return d.changeSets(r, call) }
		}
	case route == "GET hostedzone":
		call.Action = "ListHostedZones"
	default:
		call.Action = route
	}
	if bad := d.refuse(r, call, arn, lost); bad != nil {
		return nil, bad
	}
	return run()
}

// refuse checks what stands before the call itself: planned faults, the rate,
// the signature and the policy.
func (d *Double) refuse(r *http.Request, call *Call, arn string, lost *bool) *apiError {
	if f, ok := d.takeFault(call.Action); ok {
		if !f.drop {
			return &apiError{status: f.status, code: f.code, message: "planned fault"}
		}
		*lost = true
	}
	if d.throttled() {
		return &apiError{status: 400, code: "Throttling", message: "Rate exceeded"}
	}
	m := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return &apiError{status: 403, code: "MissingAuthenticationToken", message: "Missing Authentication Token"}
	}
	if d.opts.Keys[m[1]] == "" {
		return &apiError{status: 403, code: "InvalidClientTokenId", message: "The security token included in the request is invalid."}
	}
	allowed := false
	switch call.Action {
	case "ListHostedZonesByName", "GetChange":
		allowed = true
	case "ChangeResourceRecordSets":
		allowed = slices.Contains(d.opts.Writable, call.Zone)
	case "ListResourceRecordSets":
		allowed = d.opts.MayList
	}
	if !allowed {
		return &apiError{status: 403, code: "AccessDenied", message: fmt.Sprintf(
			"User: arn:aws:iam::123456789012:user/TRAEFIK_LE_USER is not authorized to perform: route53:%s on resource: %s because no identity-based policy allows the route53:%[1]s action", call.Action, arn)}
	}
	return nil
}

// reversed is Route 53's sort key of a name: com.example.www.
func reversed(name string) string {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(name), "."), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "."
}

func (d *Double) listZones(r *http.Request, call *Call) (any, *apiError) {
	q := r.URL.Query()
	call.Name = q.Get("dnsname")
	most := 100
	if v := q.Get("maxitems"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return nil, &apiError{status: 400, code: "InvalidInput", message: "maxitems"}
		}
		most = min(n, 100)
	}
	zones := slices.Clone(d.opts.Zones)
	slices.SortStableFunc(zones, func(a, b Zone) int {
		return cmp.Or(strings.Compare(reversed(a.Name), reversed(b.Name)), strings.Compare(a.ID, b.ID))
	})
	out := listHostedZonesByNameResponse{Xmlns: namespace, DNSName: call.Name, MaxItems: most}
	for _, z := range zones {
		order := strings.Compare(reversed(z.Name), reversed(call.Name))
		if call.Name != "" && (order < 0 || order == 0 && z.ID < q.Get("hostedzoneid")) {
			continue
		}
		if len(out.HostedZones) == most {
			out.IsTruncated, out.NextDNSName, out.NextHostedZoneID = true, z.Name+".", z.ID
			break
		}
		h := hostedZone{ID: "/hostedzone/" + z.ID, Name: z.Name + ".", CallerReference: z.ID, ResourceRecordSetCount: 2}
		h.Config.PrivateZone = z.Private
		out.HostedZones = append(out.HostedZones, h)
	}
	return out, nil
}

func (d *Double) getChange(id string) (any, *apiError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	status, ok := d.changes[id]
	if !ok {
		return nil, &apiError{status: 404, code: "NoSuchChange", message: "Could not find resource with ID: " + id}
	}
	return getChangeResponse{Xmlns: namespace, ChangeInfo: changeInfo{ID: "/change/" + id, Status: status, SubmittedAt: time.Now().UTC()}}, nil
}

func (d *Double) listSets(r *http.Request, zoneID string) (any, *apiError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sets, ok := d.sets[zoneID]
	if !ok {
		return nil, noSuchZone(zoneID)
	}
	q := r.URL.Query()
	var keys []setKey
	for k := range sets {
		if order := strings.Compare(reversed(k.name), reversed(q.Get("name"))); q.Get("name") == "" || order > 0 || order == 0 && k.typ >= q.Get("type") {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b setKey) int {
		return cmp.Or(strings.Compare(reversed(a.name), reversed(b.name)), strings.Compare(a.typ, b.typ))
	})
	out := listResourceRecordSetsResponse{Xmlns: namespace, MaxItems: 100}
	for _, k := range keys {
		s := resourceRecordSet{Name: k.name + ".", Type: k.typ, TTL: sets[k].ttl}
		for _, v := range sets[k].values {
			s.Records = append(s.Records, resourceRecord{v})
		}
		out.Sets = append(out.Sets, s)
	}
	return out, nil
}

func noSuchZone(id string) *apiError {
	return &apiError{status: 404, code: "NoSuchHostedZone", message: "No hosted zone found with ID: " + id}
}
