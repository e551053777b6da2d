package kube

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestControlPlane(t *testing.T) {
	start := time.Now()
	k := Start(t)
	t.Logf("usable after %v", time.Since(start)) // 10 s is the goal on a machine that does nothing else
	out, err := k.Kubectl(t.Context(), "", "version")
	if err != nil || !strings.Contains(out, "Server Version: v1.37.2") {
		t.Errorf("version: %q, %v", out, err)
	}
	space := k.Namespace(t)
	k.Apply(t, `apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: `+space+`}
data: {a: b}
`)
	user := k.UserKubeconfig(t, space, "somebody")
	_, err = k.Kubectl(t.Context(), "", "--kubeconfig="+user, "get", "configmap", "c")
	if err == nil || !strings.Contains(err.Error(), "system:serviceaccount:"+space+":somebody") {
		t.Errorf("somebody without rights: %v", err)
	}
	k.KillAPI()
	if err := k.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	var config struct{ Data map[string]string }
	err = k.Do(t.Context(), http.MethodGet, "/api/v1/namespaces/"+space+"/configmaps/c", nil, &config)
	if err != nil || config.Data["a"] != "b" {
		t.Errorf("after a restart: %v, %v", config, err)
	}
}
