for file in {{FILES}}; do
    [ -f "$directory/$file" ] && continue
    case $file in
    */ticket-keys) miss "the keys of TLS sessions are missing; run: gen-topology secrets -f $topology init" ;;
    *) miss "the certificate $file is missing; put it, its chain and its key as one PEM file into $directory/certificates" ;;
    esac
done
