// Command fleet serves many small API servers in one process, as the members of a benchmark.
//
// Each is an apiextensions-apiserver with an address, objects and custom resources of its own: what
// it answers to a server-side apply, a watch or a bad token is what a cluster answers. Beside custom
// resources there are namespaces, services, ConfigMaps and EndpointSlices. Nothing else of a cluster
// is there, which is why a thousand of them fit on one machine.
//
// It counts the requests, and remembers when WasmPlugins were written, by user. So a benchmark reads
// both where they happen, and disturbs nobody by asking.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	certutil "k8s.io/client-go/util/cert"
	_ "k8s.io/kubernetes/pkg/features"
)

// atOnce is how many members are started at the same time.
const atOnce = 4

// features are those in which members differ from the defaults. Caches that look by themselves whether
// they are right ask etcd ten thousand times a minute in a fleet of a thousand. And writing as if it
// were CBOR is not what most clusters do.
const features = "SizeBasedListCostEstimate=false,DetectCacheInconsistency=false,CBORServingAndStorage=false"

// ready is what is said when all members serve.
type ready struct {
	// Authority is the certificate that all members are trusted by.
	Authority string `json:"authority"`
	// Control is the address of the counts.
	Control string `json:"control"`
	// Members are the addresses of the API servers.
	Members []string `json:"members"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run() error {
	count := flag.Int("members", 1, "how many API servers there are")
	address := flag.String("address", "127.0.0.1", "where they listen")
	etcd := flag.String("etcd", "", "where they keep their objects")
	known := flag.String("users", "", "a file with the users by their tokens, in JSON")
	manifests := flag.String("manifests", "", "a file with what each of them has from the start, in JSON")
	told := flag.String("ready", "", "the file that is written when all of them serve")
	flag.Parse()

	var tokens map[string]string
	if err := read(*known, &tokens); err != nil {
		return err
	}
	var seeds []seed
	if err := read(*manifests, &seeds); err != nil {
		return err
	}
	if err := utilfeature.DefaultMutableFeatureGate.Set(features); err != nil {
		return err
	}
	certificate, key, err := certutil.GenerateSelfSignedCertKey(*address, []net.IP{net.ParseIP(*address)}, nil)
	if err != nil {
		return err
	}
	content, err := dynamiccertificates.NewStaticCertKeyContent("fleet", certificate, key)
	if err != nil {
		return err
	}
	users := map[string]*user.DefaultInfo{}
	for token, name := range tokens {
		users[token] = &user.DefaultInfo{Name: name}
	}
	shared := surroundings{
		address:     *address,
		certificate: content,
		users:       bearertoken.New(tokenfile.New(users)),
		etcd:        clientv3.Config{Endpoints: []string{*etcd}, DialTimeout: 20 * time.Second, Logger: zap.NewNop()},
		models:      models(),
		seeds:       seeds,
		counts:      newCounts(*count),
		turns:       newTurns(),
	}
	answer := ready{Authority: string(certificate), Members: make([]string, *count)}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for number := range *count {
		group.Go(func() error {
			url, err := shared.start(number)
			answer.Members[number] = url
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}

	control, err := net.Listen("tcp", *address+":0")
	if err != nil {
		return err
	}
	answer.Control = "http://" + control.Addr().String()
	if err := write(*told, answer); err != nil {
		return err
	}
	return http.Serve(control, shared.counts.control())
}

func read(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// write lets the file appear with all that is in it.
func write(file string, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".part", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".part", file)
}
