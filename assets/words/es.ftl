### What the window says, in Spanish: tú, and plain words.
###
### Each message is a function of `ui::words`, made by app/build.rs: it has the same arguments in all languages, or nothing is
### built. What chooses between forms is a whole number, and the forms are those of CLDR's plural rules.


## Parts that stand everywhere

done = Listo
back = Atrás
cancel = Cancelar
copied = Copiado
remove = Quitar
save = Guardar
settings = Ajustes
close-settings = Cerrar los ajustes
do-not-disturb = No molestar
name = Nombre
your-name = Tu nombre
key-enter = Intro
add-to-contacts = Añadir contacto
verified = verificado
careful = cuidado
unread =
    { $count ->
       *[other] { $count } sin leer
    }
call-them = Llamar
missed-call = Llamada perdida
percent = { $percent } %

## How a call was

how-was-it = ¿Qué tal fue? Lo que digas se queda en este dispositivo.
rating-bad = Mala
rating-poor = Floja
rating-fair = Regular
rating-good = Buena
rating-excellent = Excelente
rating-of = { $word }: { $rating } de { $most }
copy-report = Copiar el informe
report-is = Lo que se midió, para quien te ayude: sin nombres, direcciones ni claves.

## The call

call-again = Volver a llamar
close = Cerrar
you-muted = Tú (sin voz)
you-meter = Tú
microphone-level = Nivel del micrófono
them-meter = La otra parte
speaker-level = Nivel del altavoz
hold-space-to-talk = Mantén la barra espaciadora para hablar.
read-words = Leeos estas palabras. Si son iguales en los dos lados, no hay nadie en medio.
old-words = El ahoy de la otra parte es más antiguo y crea estas palabras de un modo más débil: actualizadlo y comparad después.
volume = Volumen
volume-of = Volumen de { $name }
words-on-both-sides = Las mismas palabras en los dos lados: { $words }
phase-calling = Llamando…
phase-ringing = Está sonando…
phase-incoming = te llama
phase-connecting = Conectando…
talking-on-hold = { $clock } · en espera: { $name } no oye nada
talking-held-there = { $clock } · { $name } te ha puesto en espera
talking-by-path = { $clock } · { $path } · cifrada de extremo a extremo
talking = { $clock } · cifrada de extremo a extremo
path-direct = directa
path-relay = por supernodo
path-lan = red local
path-tcp = por TCP
reconnecting-for = Se ha perdido la conexión. Reconectando, { $clock } más
reconnecting = Se ha perdido la conexión. Reconectando…
mute = Silenciar
unmute = Activar voz
answer = Contestar
answer-seen = Contestar con cámara
decline = Rechazar
decline-saying = Rechazar con un mensaje
reply-title = Rechazar y escribir a { $name }
reply-back = Te llamo pronto.
reply-later = Ahora no puedo hablar. ¿Hablamos más tarde?
reply-write = Ahora no puedo hablar. Escríbeme de qué se trata.
reply-own = Tus propias palabras
reply-send = Rechazar y enviar
camera = Cámara
stop-camera = Sin cámara
share = Compartir
sharing = Compartes
record = Grabar
stop-recording = Parar
hold = En espera
resume = Retomar
hang-up = Colgar
ignore = Ignorar
switch-calls = Cambiar
other-waits = { $them } también llama. Si contestas, { $name } queda en espera.
other-ignored = { $them } sigue llamando.
other-on-hold = { $them } está en espera.
other-reconnecting = { $them } está en espera y se ha perdido la conexión.
choose-device = Elegir otro dispositivo
choose-to-show = Elegir qué mostrar
recording-for = Grabando { $clock }
recorded-to = Grabado en { $path }
records-there = { $name } está grabando
stage-held = Has puesto en espera a { $name }
stage-held-there = { $name } te ha puesto en espera
stage-still = No llega una imagen nueva de { $name }: quizá la conexión no dé para más
picture-of = Imagen de { $name }
shows-no-picture = { $name } no muestra imagen
cannot-draw = Este controlador gráfico no puede dibujar imágenes.
own-picture = Tu propia imagen, como en un espejo
what-you-show = Lo que muestras
title-unread = ({ $unread }) ahoy
title-calling = Llamando a { $name } - ahoy
title-incoming = { $name } te llama - ahoy
title-connecting = Conectando con { $name } - ahoy
title-muted = { $name } (sin tu voz) - ahoy
title-talking = { $name } - ahoy
title-ended = Llamada con { $name } terminada - ahoy
calls-you = { $name } te llama
call-has-ended = La llamada ha terminado

## How a call ended

ended-missed-busy = { $name } te llamó mientras estabas en otra llamada.
ended-missed = Has perdido una llamada de { $name }.
ended-declined-own-device = Rechazada en otro de tus dispositivos.
ended-you-hung-up = Has colgado.
ended-they-hung-up = { $name } ha colgado.
ended-you-declined = Has rechazado la llamada de { $name }.
ended-they-declined = { $name } ha rechazado la llamada.
ended-they-declined-elsewhere = { $name } ha rechazado la llamada en otro dispositivo.
ended-busy = { $name } está en otra llamada. Inténtalo dentro de un rato.
ended-no-answer = { $name } no ha contestado.
ended-you-cancelled = Has cancelado la llamada.
ended-they-gave-up = { $name } llamó y desistió.
ended-before-sound = { $name } contestó y colgó antes de que llegara sonido.
ended-answered-own-device = Contestada en otro de tus dispositivos.
ended-unknown = El enlace de { $name } no nombra ningún supernodo y { $name } no se encontró en esta red. Si estáis en la misma red, ahoy tiene que estar abierto allí y la búsqueda en la red activada en los dos lados; desde otro sitio, pide un enlace que nombre un supernodo.
ended-offline = { $name } no está en línea en los supernodos de su enlace. Pregunta si ahoy está abierto o pide un enlace nuevo.
ended-home-busy = El supernodo de { $name } está saturado. Inténtalo dentro de un minuto.
ended-no-route = No responde ningún supernodo de { $name }. Comprueba tu conexión y después pide un enlace nuevo.
ended-untrusted = Un supernodo dio una respuesta falsa sobre { $name }, así que no se envió nada. Pide en persona a { $name } un enlace nuevo.
ended-private = { $name } está en una red privada que no admite a este dispositivo, o ya no. Pide una invitación a quien lleva esa red.
ended-flooded = Unos desconocidos inundan el supernodo de { $name }, que pide más trabajo del que se hace por una llamada. Inténtalo dentro de un rato o pide que te añada a sus contactos.
ended-lost = Se perdió la conexión con { $name }. Vuelve a llamar.
ended-impostor = Quien contestó no pudo demostrar que es { $name }, así que no se dijo nada. Pide en persona a { $name } un enlace nuevo.
ended-media = No se pudo preparar tu sonido: lee el mensaje de arriba y vuelve a llamar.
ended-protocol = El programa de { $name } dijo algo que no tiene sentido. Actualizad los dos lados.
ended-time-limit = La llamada con { $name } no se estableció en el tiempo fijado.
ended-merged = { $name } y tú os llamasteis a la vez.

## Messages

details = Detalles
write-to = Escribir a { $name }
file = Archivo
send-a-file = Enviar un archivo
message = Mensaje
send = Enviar
nothing-written = Aún no hay nada escrito. Lo que escribas se sella para los dispositivos de { $name } y espera hasta 14 días si están apagados.
time-and-state = { $time } · { $state }
you-called-nobody-answered = Llamaste y nadie contestó
you-said = Tú: { $line }
you-called = Llamaste
delivery-queued = en camino
delivery-unknown = no enviado: nada dice dónde encontrar a { $name }; se guarda aquí y se envía cuando ahoy esté abierto
delivery-no-route = no enviado: ningún supernodo de { $name } responde; se guarda aquí y se envía cuando ahoy esté abierto
delivery-no-box = no enviado: ningún supernodo tiene un buzón para { $name }; se guarda aquí y se envía cuando ahoy esté abierto
delivery-full = no enviado: los buzones de { $name } están llenos; se guarda aquí y se envía cuando ahoy esté abierto
delivery-untrusted = no enviado: lo que dicen los supernodos sobre { $name } no es auténtico; se guarda aquí y se envía cuando ahoy esté abierto
delivery-waiting = espera en { $homes ->
        [one] 1 supernodo
       *[other] { $homes } supernodos
    } hasta que { $name } se conecte
delivery-delivered = entregado
delivery-expired = no entregado: { $name } no se conectó en 14 días
attach-many = Solo se pueden enviar tantos archivos a la vez.
attach-no-dialog = Tu escritorio no tiene un diálogo de archivos: suelta el archivo en esta ventana o escribe dónde está.
do-not-send = No enviar { $name }
path-to-file = /ruta/al/archivo
where-file-is = Dónde está el archivo
choose = Elegir…
send-files = Enviar archivos
no-partner = Para enviar un archivo, abre antes la página de uno de tus contactos.
drop-to-send = Suelta para enviar a { $name }

## Files

open-folder = Abrir carpeta
accept = Aceptar
refuse = Rechazar
pause = Pausar
go-on = Seguir
accept-all-the-same = Aceptar igualmente
take-back = Retirar
file-seconds = { $count } s
file-minutes = { $count } min
file-hours = { $count } h
file-pace = { $size }/s · quedan { $left }
file-own = { $size } · enviado por ti
file-theirs = { $size } · para ti
file-percent = { $name }: { $percent } por ciento
file-told-pace = { $told } · { $pace }
file-button = { $label }: { $name }
file-offers = { $person } ofrece { $size }; no se descarga hasta que aceptes
file-fetches = { $person } lo descarga: { $done } de { $size }
file-offered = ofrecido; se envía cuando { $person } acepte y los dos estéis en línea
file-waits = { $done } de { $size }; sigue cuando { $person } esté en línea
file-false = { $done } de { $size }; lo que envía { $person } no es lo ofrecido y no se acepta
file-from =
    { $done } de { $size }, de { $sources ->
        [one] 1 dispositivo
       *[other] { $sources } dispositivos
    }
file-paused-why = { $done } de { $size }; { $why }
file-paused = en pausa en { $done } de { $size }
file-complete = completo, cada byte verificado
file-they-have-it = { $person } lo tiene
file-not-wanted = no se quiere
file-failed = ya no se puede enviar
bytes = { $count } bytes
kilobytes = { $count } kB
megabytes = { $count } MB
gigabytes = { $count } GB
file-taken-back = lo has retirado
file-they-refused = { $person } no lo quiere
file-too-large = es más grande de lo que aceptas
file-changed = el archivo se cambió o se quitó desde que se ofreció
save-as = Guardar como…
not-kept = El archivo no se guardó allí: { $error }
no-save-dialog = tu escritorio no tiene un diálogo para eso. Está en su carpeta.

## Back from elsewhere

welcome-back = Te damos la bienvenida de nuevo
a-backup-file = Una copia de seguridad
backup-brings = Trae también contactos, mensajes y ajustes. Suelta el archivo en esta ventana o escribe dónde está.
path-to-backup = /ruta/a/la/copia
backup-file = Archivo de la copia
its-passphrase = Su frase de contraseña
words-24 = 24 palabras
words-bring = Devuelven tu identidad o abren una copia hecha para ellas. Solas, tus contactos ven que has empezado de nuevo.
words-hint = las palabras, separadas por espacios
the-24-words = Las 24 palabras
come-back = Volver
opening = Abriendo…
i-am-new = Soy nuevo aquí
another-device-of-yours = Otro dispositivo tuyo
looking-for-device = Buscando tu otro dispositivo…
same-digits-there = ¿Muestra tu otro dispositivo las mismas cifras?
say-so-there = Dilo allí y este dispositivo pasará a ser tuyo. Si son otras, dilo también: alguien más tiene el enlace.
device-brings = Allí, en los ajustes, en Dispositivos, pulsa «Añadir un dispositivo» y trae aquí su enlace. No hay que recordar nada y los dos siguen juntos.
pair-link = ahoy-pair:…
link-of-other-device = Enlace de tu otro dispositivo
join = Unirse
no-pair-link = Ese no es el enlace de otro dispositivo: empieza por ahoy-pair:
pair-no-route = Nadie espera tras ese enlace: ya se usó, caducó, el otro dispositivo paró o no se llega a su supernodo desde aquí. Pide allí otro.
pair-not-let-in = El otro dispositivo no dejó entrar a este. Pide allí otro enlace y compara las cifras.
pair-too-late = Nadie dijo que sí a tiempo en el otro dispositivo.
cannot-be-read = No se puede leer { $file }: { $error }

## Sound

no-sound-built = Este ahoy se compiló sin dispositivos de sonido.
test-failed = La prueba falló: { $error }.
heard-nothing = { $microphone } no oyó casi nada: ¿está silenciado o es otro?
heard-you = { $microphone } te oyó, { $decibels } dB por debajo del máximo en lo más fuerte.
played-sound = { $speaker } reprodujo un sonido.
devices = Dispositivos
level = Nivel
level-of-microphone = Nivel en el micrófono
play-a-sound = Probar sonido
play-by-speaker = Reproducir un sonido por el altavoz
ring-test = Probar timbre
ring-by-device = Sonar por el dispositivo del timbre
record-and-play = Grabar 3 segundos y oírlos
wait = Espera…
recording-speak = Grabando: habla ahora
playing = Reproduciendo…
tests-wait = Las pruebas esperan a que termine la llamada.
microphone-listens = El micrófono escucha mientras esta página esté abierta; no se envía nada.
microphone = Micrófono
speaker = Altavoz
calls-ring-by = Las llamadas suenan por
system-default = El del sistema
system-default-is = El del sistema ({ $device })
device-missing = Falta: { $device }
your-voice = Tu voz
echo-cancellation = Cancelación de eco
echo-cancellation-why = Los demás no se oyen a sí mismos por tu altavoz.
noise-suppression = Supresión de ruido
noise-suppression-why = Quita ventiladores, tráfico y otros ruidos constantes.
gain-control = Volumen automático
gain-control-why = Sube una voz baja y baja una voz alta.
high-pass = Filtro de graves
high-pass-why = Quita zumbidos y retumbos por debajo de la voz.
click-suppression = Supresión de clics
click-suppression-why = Suaviza el tecleo mientras nadie habla.
what-is-sent = Lo que se envía
voice-gate = Puerta de voz
voice-gate-why = Envía silencio mientras nadie habla.
push-to-talk = Pulsar para hablar
push-to-talk-why = No se te oye si no mantienes la barra espaciadora.
music-mode = Modo música
music-mode-why = Envía el sonido tal cual, en estéreo; lo de arriba no actúa.
what-you-hear = Lo que oyes
reconnect-tone = Sonido al reconectar
reconnect-tone-why = Dos golpes suaves de vez en cuando mientras no hay conexión.

## Devices

speaks-no-more = Ya no habla por ti. Los supernodos lo saben ahora y los contactos con la próxima llamada o mensaje.
still-a-device = Sigue siendo uno de tus dispositivos: { $why }
link-expired = El enlace ha caducado y no se dejó entrar a nadie.
did-not-keep-rules = Quien vino no cumplió las reglas. No se dejó entrar a nadie y el enlace está gastado.
a-device = un dispositivo ({ $key }…)
my-devices = Mis dispositivos
devices-are = Cada uno habla por ti: las llamadas suenan en todos, y los contactos y lo que escribes están en todos.
one-more-device = Un dispositivo más
device-lost = Has perdido un dispositivo o te lo han robado
device-lost-what = Quítalo arriba, desde cualquier dispositivo que aún tengas: las llamadas y los mensajes ya no pasan por él y nadie lo toma por ti. Lo que ya tiene se queda en él, tras su frase de contraseña si la tiene. Si era el último, tus 24 palabras empiezan de nuevo en otro.
backup = Una copia de seguridad
backup-is = Un archivo con todo lo que eres y tienes aquí: claves, contactos, mensajes, ajustes. Contiene las claves de este dispositivo: vuelve con él cuando este dispositivo ya no exista, no a la vez.
make-backup-dots = Hacer una copia…
make-backup = Hacer la copia
backup-making = Haciendo la copia…
backup-by-words = La abren las 24 palabras
backup-by-words-why = En lugar de una frase de contraseña: quien tenga las palabras puede abrirla.
backup-passphrase = Frase de contraseña para ella
backup-passphrase-again = La misma frase otra vez
backup-differs = No son iguales.
backup-choose = Elegir dónde guardar la copia
backup-no-dialog = Tu escritorio no tiene un diálogo para eso: escribe dónde debe estar el archivo.
backup-made = La copia está en { $file } y ocupa { $size }. Guárdala en otro sitio.
backup-is-there = { $file } ya existe: elige otro nombre.
backup-short =
    { $least ->
        *[other] La frase de contraseña es demasiado corta: al menos { $least } caracteres, mejor cinco palabras que nadie conozca.
    }
backup-no-words = Este dispositivo no tiene las 24 palabras: usa una frase de contraseña.
backup-not-made = No se ha hecho la copia: { $error }
this-device-since = este dispositivo · desde el { $day }
another-device-since = otro dispositivo · desde el { $day }
take-out = Quitar
take-out-whom = Quitar { $name }
take-out-means = Ya no hablará por ti y no podrá volver a entrar por sí solo. Lo que tiene se queda en él.
take-it-out = Sí, quitarlo
keep-it = Conservarlo
pair-how = Este dispositivo muestra un enlace, el otro lo toma y los dos muestran seis cifras para comparar.
add-a-device = Añadir un dispositivo
looking-for-place = Buscando un punto de encuentro…
pair-waiting = Abre ahoy en el otro dispositivo, pulsa «Ya tengo ahoy» y pega allí este enlace. Vale diez minutos y para un dispositivo: no se lo muestres a nadie más.
pair-qr = El enlace para tu otro dispositivo como código QR
copy-the-link = Copiar el enlace
pair-asked = { $who } quiere ser uno de tus dispositivos. ¿Muestra
pair-asked-means = Si es así, recibe tus contactos y habla por ti desde ahora. Si no, alguien más tiene el enlace.
the-same-digits = Las mismas cifras
other-digits = Otras cifras
pair-giving = { $who } recibe tus contactos…
pair-done = { $who } ya es uno de tus dispositivos.
add-another-device = Añadir otro dispositivo
try-again = Volver a intentar

## The echo test

echo-test = Prueba de eco
echo-test-is = Una llamada a ti mismo: dice una frase y después repite lo que dices, tres segundos más tarde. No necesita internet.
call-echo-test = Llamar a la prueba de eco

## How good a call is

quality-gap = Ahora mismo no funciona ningún camino a la otra parte.
quality-lost-here = El { $percent } % de los paquetes de { $name } se pierde de camino a ti.
quality-uneven = El sonido de { $name } llega tarde o a saltos: su red o la tuya está cargada.
quality-lost-there = El { $percent } % de tus paquetes se pierde de camino a { $name }.
quality-restored = El { $percent } % de los paquetes de { $name } se pierde de camino a ti y se recupera.
quality-thin = Tu camino a { $name } solo da { $kbps } kbit/s, así que tu voz lleva pocos bits.
quality-long = El camino entre vosotros es largo: { $millis } ms de ida y vuelta.
quality-buffer = Los paquetes de { $name } llegan a saltos, así que su sonido espera { $millis } ms aquí.
quality-good = Nada limita esta llamada.

## Home

contacts = Contactos
name-or-link = Nombre o enlace para llamar
call-somebody = Llamar a alguien
name-or-link-hint = Nombre o enlace ahoy:
scan-code = Leer un código QR
scan-stop = Dejar de leer
scan-is = Acerca el código a la cámara. No se envía nada, y la cámara se apaga en cuanto se lee un enlace.
scan-no-link = En ese código no hay ningún enlace de ahoy.
your-link = Tu enlace: quien lo tenga puede pedir llamarte
copy-link = Copiar enlace
hide-qr = Ocultar código QR
show-qr = Mostrar código QR
your-link-qr = Tu enlace como código QR
call-whom = Llamar a { $name }
write = Escribir
requests = Gente que no conoces quiere contactarte
look = Ver
look-at-request = Ver la solicitud de { $name }
no-supernode = Aún no hay supernodo: pega el enlace de alguien para llamar
reachable =
    { $all ->
        [one] Localizable por 1 supernodo
       *[other] Localizable por { $up } de { $all } supernodos
    }
looking-for-supernodes = Buscando tus supernodos…
not-a-contact-name = Ninguno de tus contactos se llama así. Para llamar a alguien nuevo, pega su enlace ahoy:.
is-supernode-link = Es el enlace de un supernodo. Para registrarte en él, añádelo en los ajustes, en Red.
link-unusable = Ese enlace no se puede usar: { $error }
today = Hoy
yesterday = Ayer
monday = Lunes
tuesday = Martes
wednesday = Miércoles
thursday = Jueves
friday = Viernes
saturday = Sábado
sunday = Domingo
january = enero
february = febrero
march = marzo
april = abril
may = mayo
june = junio
july = julio
august = agosto
september = septiembre
october = octubre
november = noviembre
december = diciembre
date = { $day } de { $month } de { $year }
moment = { $date }, { $time }
day-and-month = { $day } de { $month }

## Calls of the last days

recent-missed = Perdida
recent-outgoing = Saliente
recent-declined-there = Rechazada allí
recent-busy = Ocupado
recent-no-answer = Sin respuesta
recent-cancelled = Cancelada
recent-not-reached = No localizado
recent-failed = Fallida
recent-declined-elsewhere = Rechazada en otro dispositivo
recent-answered-elsewhere = Contestada en otro dispositivo
recent-declined = Rechazada
recent-incoming = Entrante
recent-rated = { $rating } de 5
recent-calls = Llamadas recientes
show-fewer = Ver menos
show-all-calls = Ver todas las llamadas
call-back = Devolver la llamada a { $name }
look-at = Ver a { $name }

## Keys

keys-everywhere = En todas partes
keys-ringing = Mientras suena
keys-call = En una llamada
keys-are-chosen = Para elegir otra letra u otro dígito para algo de una llamada, pulsa el botón con su tecla y después la nueva.
keys-usual = Las teclas de siempre
key-press = Pulsa una
key-press-for = Pulsa la nueva tecla para: { $what }
key-change = { $what }: { $key }. Elegir otra tecla
key-unfit = Solo se pueden elegir letras de la A a la Z y dígitos.
key-taken = { $key } ya sirve para otra cosa: { $what }
key-tab = Tab
key-tab-does = Al siguiente; con Mayús al anterior
key-space = Espacio
key-space-does = Pulsa lo que tiene el marco
key-escape = Esc
key-escape-does = Cierra lo que está abierto
key-settings = Ctrl + ,
key-search = Ctrl + K
key-search-does = Buscar o pegar un enlace
key-contacts = Ctrl + 1 … 9
key-contacts-does = Escribe al primer, segundo… contacto
key-file = Ctrl + O
key-file-does = Envía un archivo a quien escribes o con quien hablas
key-list = Ctrl + /
key-list-does = Esta lista; también ?
key-whole-screen = F11
key-whole-screen-does = Toda la pantalla
key-quit = Ctrl + Q
key-quit-does = Termina ahoy
key-answers = Contesta
key-answers-seen = Contesta y muestra tu cámara
key-declines = Rechaza
key-declines-saying = Rechaza con un mensaje
key-stops-calling = Deja de llamar
key-mutes = Silencia tu voz, o ya no
key-camera = Enciende o apaga la cámara
key-shares = Muestra una pantalla o una ventana
key-records = Graba la llamada
key-holds = Pone en espera a la otra parte
key-hangs-up = Cuelga
key-ignores = Deja de oírse a quien más llama
key-other-does = Contesta o rechaza a quien más llame
key-switches = Sigue con la llamada en espera
key-talks = Se te oye mientras la mantienes, con pulsar para hablar

## Lending

mbit-half = 0,5 Mbit/s
mbit-2 = 2 Mbit/s
mbit-10 = 10 Mbit/s
mbit-50 = 50 Mbit/s
people-10 = 10 dispositivos
people-50 = 50 dispositivos
people-200 = 200 dispositivos
people-1000 = 1000 dispositivos
lend = Presta tu conexión
lend-switch = Ayudar a otros a llamar
lend-switch-why = Este equipo es un supernodo para quien no tiene ninguno: transmite lo que no puede leer.
lend-most = Como mucho se transmite esto para otros:
lend-people = Para tantos a la vez como mucho:
lend-metered = También donde se paga por datos
lend-metered-why = Si no, no se presta nada mientras este equipo está en una red así.
lending-off = No prestas nada.
lending-looking = Se pregunta a otros supernodos si llegan a este equipo; nadie más lo sabe todavía.
lending-unreachable = De { $asked } redes consultadas, { $reached } llegan a este equipo, así que nadie lo sabe: deja entrar UDP en tu router o cortafuegos.
lending-now = Ahora: { $people } de { $most } dispositivos como mucho, { $calls ->
        [one] 1 extremo de llamada
       *[other] { $calls } extremos de llamadas
    }, { $kbps } kbit/s como mucho.
lending-done = Desde el { $since } se ayudó a { $people ->
        [one] 1 persona
       *[other] { $people } personas
    } y se transmitieron { $bytes } de sus llamadas.
lending-on = Prestas: hay { $people ->
        [one] 1 persona registrada
       *[other] { $people } personas registradas
    } aquí y se ha ayudado a { $helped }.
lending-busy = Prestas y todo está en uso: por ahora no hay llamadas nuevas.
lending-metered = No se presta nada mientras este equipo esté en una red que se paga por datos.
lending-stopping = Quienes usan este equipo se están yendo a otros.
lending-failed = El préstamo no empieza.

## The network, and the way of a call

station-supernode = un supernodo
station-tcp = un supernodo, por TCP
station-lan = tu red
station-none = aún sin camino
station-you = Tú
now = Ahora
your-router = Tu router
not-measured-yet = Aún sin medir: hace falta un supernodo y unos segundos.
family-line = { $family }: { $line }
standing-in = las llamadas entran por él
standing-silent = no responde
standing-away = a { $millis } ms
standing-lied = mostró algo que nadie firmó
standing-unknown = aún no se sabe nada de él
standing-words = de { $all ->
        [one] 1 promesa
       *[other] unas { $all } promesas
    } cumplió { $kept }
call-page-empty = Aquí se ve cómo va una llamada mientras la hay: retardos, pérdidas y qué la limita.
last-five-minutes = Los últimos cinco minutos
first-second = Se mide el primer segundo…
copy-as-text = Copiar como texto
search-took = Buscar un camino directo ha costado { $packets } paquetes a { $flows } direcciones.
way-of-sound = El camino del sonido: { $stations }
plot-rtt = Ida y vuelta
plot-lost-here = Perdido de camino a ti
plot-lost-there = Perdido de camino allí
plot-restored = Recuperado
plot-invented = Sonido inventado
plot-buffer = Búfer de fluctuación
plot-sent = Voz enviada
plot-capacity = Lo que da el camino de ida
plot-value = { $value } { $unit }
not-measured = sin medir
nat-inside = Está en la misma red; lo que hay entre ella e internet no se ve desde allí.
nat-none = Nada traduce los paquetes; los demás los ven tal como salen.
nat-several = Cada uno te ve en una dirección distinta: algunas llamadas siguen por el supernodo.
nat-one-port = Un solo puerto exterior sirve para todos: las llamadas se hacen directas con casi todos.
nat-many-ports = Cada persona ve otro puerto exterior. Las llamadas se hacen directas con quien tenga un NAT más fácil; con los demás se adivinan puertos y, si falla, siguen por el supernodo.
nat-unseen = Con un solo supernodo, del que no se alcanza otro puerto, no hay más que ver.
nat-lets-known = Quien conoce el puerto pasa, al menos desde direcciones a las que se escribió.
nat-lets-written = Solo pasa aquel a quien se escribió, como en casi todos los routers: los dos lados de una llamada abren el camino.
nat-no-second-port = Los supernodos no tienen un segundo puerto para probarlo.

## A person

sure-verified = Verificado: has comparado palabras de seguridad con { $name }. Si otra persona ocupara su lugar, deja de valer y se te avisa.
sure-unverified = Sin verificar. En una llamada los dos veis las mismas seis palabras: leéoslas y nadie podrá estar en medio. Solo valen para esa llamada.
sure-doubtful = Cuidado: se han visto dos listas de dispositivos de { $name } que se contradicen. O { $name } empezó de nuevo con las mismas palabras, o alguien se hace pasar por { $name }. Pregunta por otra vía y comparad otra vez.
favourite = Favorito
favourite-why = Está arriba en la lista.
their-calls = Sus llamadas
ring-usual = Suenan como siempre
ring-always = Suenan en todo caso
ring-never = Nunca suenan
ring-usual-why = Salvo que no quieras que te molesten.
ring-always-why = Aunque no quieras que te molesten.
ring-never-why = Se muestran, sin sonido.
what-they-learn = Lo que llegan a saber
hide-my-address = Ocultar mi dirección
hide-address-why = Las llamadas con esta persona van solo por supernodos, algo más tarde.
their-link = Su enlace, sin decir dónde está:
copy-their-link = Copiar su enlace
stranger-is = No es contacto tuyo: no puede sonar y no sabe si has leído algo
rename = Cambiar nombre
name-if-otherwise = Nombre, si le llamas de otro modo
what-they-are-called = Cómo se llama
is-it-really = ¿Es de verdad { $name }?
they-are-the-same = Son iguales
they-differ = Son distintas
call-to-compare = Llamar y comparar palabras
words-differed = Entonces cuelga y no digas nada que otros no deban oír: puede haber alguien en medio. Daos los enlaces por otra vía e intentadlo de nuevo.
words-compared = Palabras de seguridad comparadas
words-compared-why = Os leísteis las palabras de una llamada y eran iguales.
block = Bloquear
block-them = ¿Bloquear?
forget = Olvidar
forget-contact = ¿Olvidar este contacto?
put-away = Descartar
put-away-really = ¿Descartar?
block-means = No sabrás nada más de esta persona y no se le avisa. En los ajustes, en Privacidad, se puede desbloquear; entonces ya no es contacto.
forget-means = Entonces será un desconocido y tendrá que preguntar. Lo escrito se queda; si se compararon palabras, no.
keep-as-it-is = Dejarlo así
voice-call = Llamada de voz
video-call = Videollamada
messages = Mensajes
file-dots = Archivo…
send-them-a-file = Enviarle un archivo

## Settings

not-saved = Esto no se ha guardado: { $error }
keyring-needs-passphrase = hace falta la frase de contraseña: marca la casilla donde ahoy la pide
tab-sound = Sonido
tab-you = Tú
tab-devices = Dispositivos
tab-privacy = Privacidad
tab-network = Red
tab-call = Llamada
tab-look = Aspecto
tab-keys = Teclas
waits-for-start = Algo de lo que elegiste vale desde el próximo inicio de ahoy.
settings-being-read = Leyendo los ajustes…
name-stands = Está en tu enlace, y quien no te conoce lo ve cuando llamas.
your-card = Tu tarjeta
first-steps = Primeros pasos
first-steps-are = Nombre, prueba de sonido y tarjeta, uno tras otro.
show-again = Mostrarlos otra vez
how-calls-get-through = Cómo pasan las llamadas
supernodes-of-choice = Supernodos que eliges
supernodes-are = Donde te registras para que las llamadas te encuentren. Cualquiera puede tener uno y darte su enlace.
remove-what = Quitar { $what }
node-link-hint = enlace ahoy-node:…
link-of-supernode = Enlace de un supernodo
add = Añadir
proxy = Proxy
proxy-is = Por dónde pasan las conexiones TCP a los supernodos; vacío: como diga el sistema; none: nada.
proxy-hint = socks5://host:puerto
save-proxy = Guardar el proxy
colours = Colores
as-the-system = Como el sistema
dark = Oscuro
light = Claro
scale-title = Tamaño
size-is = De todo: texto, botones y espacios.
size-of-everything = Tamaño de todo
language-title = Idioma
the-window = La ventana
no-link-yet = Aún no tienes enlace: llega en cuanto responda un supernodo o haya alguien en tu red.
card-is = Quien tenga este enlace puede pedir llamarte. Envíalo o deja que un teléfono lea la imagen.
copy-your-link = Copiar tu enlace
is-person-link = Es el enlace de una persona: el de un supernodo empieza por ahoy-node:
no-supernode-link = No es el enlace de un supernodo: { $error }
port-mapping = Pedir un puerto al router
port-mapping-why = Las llamadas van directas más a menudo, por PCP, NAT-PMP o UPnP.
lan-discovery = Encontrar gente en esta red
lan-discovery-why = Las llamadas dentro de ella no necesitan supernodo ni internet.
guess-ports = Adivinar puertos
guess-ports-why = Un camino directo por routers tercos, a cambio de unos cientos de paquetes.
directory = Los supernodos encuentran gente
directory-why = Deja dicho en otros supernodos dónde estás y les pregunta por otros.
dht = La tabla pública encuentra gente
dht-why = Sus nodos ven tu dirección y a quién buscas.
dht-publish = Que te encuentre la tabla pública
dht-publish-why = Sus nodos, que pueden ser de cualquiera, ven qué dirección tienes.
accept-files = Aceptar archivos sin preguntar
accept-files-why = Lo que ofrecen los contactos llega enseguida, a tu carpeta de descargas.
call-waiting = Dejar esperar a otros
call-waiting-why = A quien llame mientras hablas puedes contestarle o rechazarlo; si no, oye que estás ocupado.
keyring = El llavero del escritorio abre este perfil
keyring-why = A quien ha iniciado sesión no se le pide la frase de contraseña, que lo sigue abriendo.
keep-running = Sonar con la ventana cerrada
keep-running-why = Cerrarla solo la oculta: abre ahoy otra vez para verla; Ctrl+Q lo termina.
autostart = Empezar con la sesión
autostart-why = Sin ventana, que se abre cuando alguien llama.
strangers-ask = Preguntar antes
strangers-ask-why = Los desconocidos esperan entre las solicitudes, en silencio.
strangers-ring = Sonar
strangers-ring-why = Los desconocidos suenan como cualquiera.
strangers-drop = Nadie
strangers-drop-why = Los desconocidos no encuentran a nadie aquí y tú no sabes de ellos.
automatic = Automático
path-auto-why = Por un supernodo enseguida, directa en cuanto se pueda.
path-relay-why = Solo por supernodos: la otra parte nunca sabe dónde estás.
path-direct-only = Solo directa
path-direct-why = Nunca por un supernodo; sin camino directo no hay llamada.
path-tcp-only = Solo TCP
path-tcp-why = Solo por supernodos y por TCP, donde no dejan pasar otra cosa.
when-strangers-call = Cuando llama alguien que no conoces
while-you-talk = Mientras hablas
ways-calls-take = Caminos de las llamadas
finding = Encontrar y que te encuentren
files = Archivos
what-opens-profile = Qué abre este perfil
messages-and-history = Mensajes e historial
history-is = Lo que escribes espera sellado en los supernodos de la otra parte hasta que su dispositivo lo recoge. Lo escrito y a quién llamaste se queda en este perfil.
blocked-people = Gente bloqueada
nobody-blocked = No has bloqueado a nadie.
blocked-means = No se les avisa y no llegan a nadie aquí. Al desbloquearlos son desconocidos que tienen que preguntar.
unblock = Desbloquear
unblock-whom = Desbloquear a { $name }

## What is shown to the other side

way-text = Texto
way-motion = Movimiento
they-see = { $name } ve { $what }
stop-showing = Dejar de mostrar
bar-title = ahoy: lo que muestras
hide-bar = Ocultar esta barra
with-sound = Con sonido
with-sound-why = También se oye lo que reproducen otros programas
how-screens-are-sent = Cómo se envían pantallas y ventanas
judged-text = Según lo que se ve: ahora texto o imagen fija, así que nítido.
judged-motion = Según lo que se ve: ahora se mueve, así que fluido.
judged-nothing = Según lo que se ve: el texto nítido, lo que se mueve fluido.
sent-as-text = Nítido, y tamaño completo antes que muchas imágenes.
sent-as-motion = Fluido, y muchas imágenes antes que tamaño completo.
screens = Pantallas
windows = Ventanas
cameras = Cámaras
looking-for-screens = Buscando pantallas y ventanas…
no-other-window = No hay otra ventana abierta.
your-camera = tu cámara
the-test-pattern = la carta de ajuste
a-film = una película
your-window = tu ventana «{ $window }»
one-of-your-windows = una de tus ventanas
your-screen = tu pantalla
show-what = Mostrar { $what }

## The menu in the tray

tray-show = Mostrar la ventana
tray-quit = Salir

## Who can be reached

presence-switch = Los contactos ven si estás localizable
presence-switch-why = Y tú lo ves de ellos. Se pregunta a sus dispositivos mientras esta ventana está abierta, con una pregunta sellada que solo ellos pueden abrir; solo se responde a contactos. Un supernodo suyo ve lo mismo que en una llamada: que alguien preguntó por ellos, y desde qué dirección. Apagado: ni respondes ni preguntas. A quien se oculta tu dirección no se le pregunta.
your-contacts = Tus contactos
is-reachable = Localizable ahora
is-away = No localizable ahora
is-reachable-now = { $name } está localizable ahora
is-away-now = { $name } no está localizable ahora

## What went wrong

trouble-disk-full = el disco está lleno: haz sitio
trouble-disk-denied = el sistema no lo permite: elige otra carpeta o cambia sus permisos
trouble-disk-read-only = ahí no se puede escribir nada: elige otra carpeta
trouble-disk-missing = no existe ese archivo o esa carpeta
trouble-disk-other = el sistema dice: { $error }
trouble-file-full = el disco está lleno: haz sitio y deja que siga
trouble-file-disk = no se puede escribir { $path }: { $why }
trouble-file-names = en { $folder } hay demasiados archivos con ese nombre
trouble-file-unreadable = No se puede leer { $path }: { $why }.
trouble-no-file = { $path } no es un archivo.
trouble-file-larger = { $path } es mayor que lo que se puede enviar: { $most } como mucho.
trouble-disk-busy = El disco está ocupado. Inténtalo otra vez.
trouble-too-many-files = Hay demasiados archivos en camino a esta persona: cancela alguno.
trouble-unknown-file = Ese archivo ya no está en camino.
trouble-own-file = Un archivo tuyo solo se puede cancelar, y antes de que llegue.
trouble-file-complete = Ese archivo ya está completo.
trouble-file-was-refused = No querías ese archivo, y { $person } lo sabe. Pide que te lo envíe otra vez.
trouble-no-folder = No hay carpeta para archivos: indica download_folder en settings.toml.
trouble-file-still = Ese archivo no se mueve.
trouble-link-empty = está vacío
trouble-link-long = es más largo que cualquier enlace; ¿se pegó algo detrás?
trouble-link-space = tiene un espacio o un salto de línea; cópialo otra vez de una pieza
trouble-link-none = el de una persona empieza por ahoy: y el de un supernodo por ahoy-node:
trouble-link-slashes = escribe ahoy: sin barras
trouble-link-case = escribe el principio en minúsculas
trouble-link-person-wanted = es de un supernodo; pide el que empieza por ahoy:
trouble-link-node-wanted = es de una persona; el de un supernodo empieza por ahoy-node:
trouble-link-cut = su clave tiene { $count } caracteres en vez de { $all }; ¿está cortado?
trouble-link-character = { $character } no aparece en ninguna clave; cópialo en vez de teclearlo
trouble-link-mistyped = su clave está mal escrita; cópialo en vez de teclearlo
trouble-link-newer = lo hizo un ahoy más nuevo; actualiza para usarlo
trouble-link-damaged = una parte ({ $part }) está dañada; cópialo otra vez
trouble-link-home = la dirección de un supernodo que contiene no es correcta; cópialo otra vez
trouble-link-node = se escribe ahoy-node:CLAVE@HOST:PUERTO; cópialo otra vez
trouble-link-invite = la invitación que contiene está dañada o caducada; pide otra
trouble-name-unknown = Ningún contacto se llama { $name }.
trouble-name-several = Varios contactos se llaman { $name }: ponle otro nombre a alguno.
trouble-own-link = Es tu propio enlace: pide el suyo a la otra persona.
trouble-own-link-add = Es tu propio enlace: dáselo a otros.
trouble-node-link = Es el enlace de un supernodo: el de una persona empieza por ahoy:
trouble-no-contact = Esa persona no es contacto tuyo.
trouble-declined-silently = Solo se escribe a los contactos: la llamada se rechazó sin una palabra.
trouble-no-name = Un contacto necesita un nombre.
trouble-profile = El perfil no se puede escribir ni leer: { $error }.
trouble-not-saved = Esto vale hasta que se cierre ahoy, y no se pudo guardar: { $error }.
trouble-rescued = La base de datos del perfil estaba dañada. Se conserva como { $file }; { $read } de sus entradas se pudieron leer, { $added } más vienen de una copia, y pueden faltar mensajes.
trouble-no-echo = La prueba de eco no empieza: { $error }.
trouble-in-call = Ya hay una llamada: cuelga primero.
trouble-no-call = Esa llamada ya no existe.
trouble-not-ringing = La llamada ya no suena aquí.
trouble-not-talking = Una llamada se puede grabar cuando habléis: hay que avisar al otro lado.
trouble-no-words = Esta llamada no tiene palabras de seguridad: el otro lado rompió el intercambio del que salen. Puede haber alguien en medio; no te fíes de esta llamada.
trouble-media = No se puede preparar tu sonido: { $error }.
trouble-device-none-microphone = No se encontró ningún micrófono: conecta uno.
trouble-device-none-speaker = No se encontró ningún altavoz: conecta uno.
trouble-device-away = El dispositivo elegido no está: conéctalo o elige otro.
trouble-device-busy = Otro programa usa el dispositivo: ciérralo o elige otro dispositivo.
trouble-device-denied = El sistema no deja que ahoy use el dispositivo: permítelo en sus ajustes de privacidad.
trouble-device-format = El dispositivo no ofrece ningún formato de sonido utilizable ({ $format }): elige otro.
trouble-device-lost = El dispositivo desapareció.
trouble-device-stalled = El dispositivo dejó de funcionar.
trouble-sound-hung = El sistema de sonido no responde: reinícialo, o el equipo.
trouble-sound-system = El sistema de sonido falla: { $error }.
trouble-microphone-lost = Tu micrófono: { $why }
trouble-speaker-lost = Tu altavoz: { $why }
trouble-microphone-open = Tu micrófono es { $device }.
trouble-speaker-open = Tu altavoz es { $device }.
trouble-microphone-gone = El micrófono elegido desapareció y nada ocupa su lugar: conéctalo o elige otro.
trouble-speaker-gone = El altavoz elegido desapareció y nada ocupa su lugar: conéctalo o elige otro.
trouble-microphone-displaced = Puede que el sistema usara otro micrófono un momento; el elegido ha vuelto.
trouble-speaker-displaced = Puede que el sistema usara otro altavoz un momento; el elegido ha vuelto.
trouble-microphone-follows = Tu micrófono ahora es { $device }, como dice el sistema.
trouble-speaker-follows = Tu altavoz ahora es { $device }, como dice el sistema.
trouble-others-need-devices = Lo que suena en otros programas solo se oye en llamadas con micrófono o altavoz.
trouble-others-unheard = Lo que suena en otros programas no se oye: { $why }.
trouble-picture-black = Tu pantalla está negra para el otro lado: con Wayland, un programa solo ve por sí mismo ventanas de programas X11. Elige la pantalla en el diálogo de tu escritorio.
trouble-picture-unseen = El otro lado no muestra imagen, así que no se envía ninguna. Se te oye igual.
trouble-picture-codec = El otro lado no muestra ningún formato nuestro de imagen, así que no se envía ninguna. Se te oye igual; uno de los dos debería actualizar ahoy.
trouble-picture-not-encoded = Tu imagen no se envía ({ $error }). Se vuelve a intentar con cada una.
trouble-picture-undecodable = Una imagen del otro lado no se puede descodificar, así que queda la última; se ha pedido otra. Si sigue así, uno de los dos debería actualizar ahoy.
trouble-picture-stuck = Tu imagen no se envía en este momento: la conexión no da para ella, o este equipo está ocupado. Se te oye, y volverá por sí sola.
trouble-picture-not-built = Este ahoy se compiló sin imagen.
trouble-picture-not-yet = Se puede mostrar imagen cuando habléis.
trouble-picture-nobody = El otro lado no muestra imagen. Se te oye igual.
trouble-picture-open = Eso no se puede mostrar: { $error }.
trouble-no-camera = No hay ninguna cámara conectada, así que el otro lado no te ve. Te verá en cuanto haya una.
trouble-camera-away = La cámara { $camera } no está conectada, así que el otro lado no te ve. Te verá en cuanto lo esté.
trouble-camera-unknown = La cámara { $camera } no está conectada, así que el otro lado no te ve. Hay estas: { $there }.
trouble-camera-several = Varias cámaras se llaman { $camera }, así que no se usa ninguna. Elige una: { $several }.
trouble-camera-unplugged = La cámara { $camera } se desconectó, así que el otro lado no te ve. Conéctala otra vez y te verá.
trouble-camera-denied = No puedes usar { $camera }, así que el otro lado no te ve. Únete al grupo al que pertenece (sudo usermod -aG video $USER) y vuelve a iniciar sesión.
trouble-camera-busy = Otro programa usa la cámara { $camera }, así que el otro lado no te ve. Ciérralo y te verá.
trouble-camera-broken = La cámara { $camera } no funciona ({ $error }), así que el otro lado no te ve. Se vuelve a intentar; si no ayuda, desconéctala y conéctala.
trouble-camera-format = La cámara { $camera } da imágenes que no se entienden ({ $given }), así que el otro lado no te ve. Elige otra cámara.
trouble-camera-silent = La cámara { $camera } no da imágenes, así que el otro lado no te ve. Se vuelve a intentar; ¿está tapada, o pulsada su tecla de privacidad?
trouble-no-screens = De momento las pantallas solo se pueden mostrar en Linux, así que el otro lado no ve nada.
trouble-no-display-wayland = Aquí no hay pantalla de X11, así que el otro lado no ve nada. Elige la pantalla en el diálogo de tu escritorio, o inicia una sesión con X11.
trouble-no-display = No hay pantalla que mostrar (¿está definida DISPLAY y puedes usarla?), así que el otro lado no ve nada. Se vuelve a buscar.
trouble-display-lost = La pantalla desapareció o no responde, así que el otro lado no ve nada de ella. Se vuelve a buscar.
trouble-display-refuses = La pantalla no se deja leer, así que el otro lado no ve nada de ella. Se vuelve a intentar.
trouble-screen-number = Esta pantalla no se puede mostrar: no existe ese número.
trouble-screen-depth = Esta pantalla no se puede mostrar: sus píxeles tienen { $depth } bits. Elige una profundidad de 24 en los ajustes de la pantalla.
trouble-screens-size = Todas las pantallas juntas son demasiado grandes: elige una.
trouble-screen-size = Esto tiene un tamaño que no se puede mostrar: hazlo mayor o menor.
trouble-screen-unknown = No hay ninguna pantalla { $screen }, así que el otro lado no ve nada hasta que la haya. Hay estas: { $there }.
trouble-window-unknown = Ninguna ventana se llama «{ $window }», así que el otro lado no ve nada hasta que haya una.
trouble-window-several = Varias ventanas se llaman «{ $window }», así que el otro lado no ve ninguna. Elige una: { $several }.
trouble-window-closed = La ventana «{ $window }» se cerró, así que el otro lado no ve nada nuevo de ella. Se volverá a mostrar en cuanto haya una con ese nombre.
trouble-window-closed-for-good = La ventana «{ $window }» se cerró, así que el otro lado no ve nada nuevo de ella. Elige otra.
trouble-window-hidden = La ventana «{ $window }» está minimizada, así que el otro lado no ve nada nuevo de ella hasta que la abras.
trouble-locked = Tu pantalla está bloqueada o dormida, así que el otro lado no ve nada nuevo de ella hasta que vuelvas.
trouble-no-portal = Tu escritorio no ofrece a los programas una vía para mostrar sus pantallas, así que el otro lado no ve nada. Instala xdg-desktop-portal con la parte de tu escritorio, y PipeWire, o inicia una sesión con X11.
trouble-not-picked = No se eligió nada en el diálogo de tu escritorio, así que el otro lado no ve nada. Comparte otra vez para que te pregunte de nuevo.
trouble-share-ended = Tu escritorio terminó la emisión, así que el otro lado ya no ve nada. Comparte otra vez para seguir.
trouble-portal-format = Tu escritorio no da imágenes que ahoy entienda, así que el otro lado no ve nada. Dinos cuál es.
trouble-film = Ya no se envían imágenes: { $error }.
trouble-recorded-already = Esta llamada ya se está grabando.
trouble-other-recorded = Se está grabando la llamada en espera: cambia a ella y termina eso primero.
trouble-record-exists = Ya hay un archivo { $path }, y no se graba encima: elige otro nombre.
trouble-record-create = No se puede crear la grabación { $path }: { $why }.
trouble-record-write = La grabación { $path } se ha parado: { $why }. Lo grabado hasta entonces se conserva.
trouble-record-other = No se graba nada: { $error }.
trouble-nothing-to-say = Ese mensaje no dice nada.
trouble-outbox-full = Hay demasiados mensajes esperando a salir. Inténtalo cuando hayan salido algunos.
trouble-message-not-kept = El mensaje no se puede guardar, y no se envía: { $error }.
trouble-files-to-contacts = Los archivos solo van a contactos: añade antes a esta persona.
trouble-cannot-lend = Este ahoy no puede prestar nada.
trouble-no-pass = Un supernodo solo sirve a una red privada: pide una invitación y únete a ella.
trouble-pass-foreign = Un supernodo sirve a una red privada distinta de la tuya.
trouble-pass-expired = Tu invitación a la red privada caducó: pide otra.
trouble-pass-revoked = Tu invitación a la red privada fue retirada.
trouble-pass-taken = Otra persona usó antes tu invitación a la red privada. Díselo a quien la hizo y pide otra.
trouble-pass-wrong = El pase a la red privada no es de este dispositivo.
trouble-supernode-refuses = Un supernodo no deja entrar a este dispositivo: { $error }.
trouble-pass-over = Tu invitación a la red privada ha terminado: allí nadie puede llamarte ni recibir tu llamada. Pide otra a quien la lleva.
trouble-taken-out = Otro dispositivo tuyo ha quitado este: ya no habla por ti, y desde aquí no se llega a nadie.
trouble-own-fork = Hay dos listas de tus propios dispositivos que se contradicen: otra persona tiene tu clave o uno de tus dispositivos. Crea una identidad nueva y díselo a tus contactos.
trouble-fork = La lista de dispositivos de { $name } contradice la que se vio antes: puede que alguien se haga pasar por { $name }. Pregúntale por otra vía. La prueba se conserva.
trouble-unwitnessed = Ningún supernodo ha firmado la lista de dispositivos de { $name }, aunque tiene horas. Pasa si sus supernodos son de una versión anterior, o si alguien te la muestra solo a ti. Comparad las palabras de seguridad en la llamada.
trouble-pass-ends =
    { $days ->
        [one] Tu invitación a la red privada termina en { $days } día: pide antes otra a quien la lleva.
       *[other] Tu invitación a la red privada termina en { $days } días: pide antes otra a quien la lleva.
    }
trouble-contradicted =
    { $networks ->
        [one] Hay dos listas de dispositivos de { $name }, y supernodos de { $networks } red han firmado la que su registro más nuevo no menciona: puede que alguien se haga pasar por { $name }. Comparad las palabras de seguridad en la llamada, o pregúntale por otra vía.
       *[other] Hay dos listas de dispositivos de { $name }, y supernodos de { $networks } redes han firmado la que su registro más nuevo no menciona: puede que alguien se haga pasar por { $name }. Comparad las palabras de seguridad en la llamada, o pregúntale por otra vía.
    }
trouble-behind =
    { $networks ->
        [one] Supernodos de { $networks } red han firmado una lista de dispositivos de { $name } más larga que la que menciona su registro más nuevo: puede llevar a un dispositivo que { $name } ha quitado. Pregúntale por otra vía.
       *[other] Supernodos de { $networks } redes han firmado una lista de dispositivos de { $name } más larga que la que menciona su registro más nuevo: puede llevar a un dispositivo que { $name } ha quitado. Pregúntale por otra vía.
    }

## A locked profile

profile-is-locked = Este perfil está bloqueado
passphrase = Frase de contraseña
open = Abrir
keep-in-keyring = Que en adelante lo abra el llavero
trying-failed = El intento falló.
wrong-passphrase = Esa no es la frase de contraseña. No se cambió nada.
locked-means = Tus contactos, mensajes y claves están sellados en este dispositivo. Nadie puede recuperar una frase olvidada.

## The first minute

step-name = ¿Cómo te llamas?
step-sound = ¿Funciona tu sonido?
step-camera = ¿Se te ve bien?
step-card = Esta es tu tarjeta
step-of = Paso { $number } de { $all }
sound-step-is = Habla y mira cómo se mueve el nivel. Graba tres segundos para oírte como te oirán.
camera-step-is = Te ves como en un espejo. No se envía nada, y la cámara se apaga en cuanto sigues adelante.
mirror-opens = Buscando una cámara…
mirror-missing = Aquí no hay cámara. Las llamadas funcionan sin ella; conecta una y se verá aquí.
mirror-denied = No puedes usar la cámara. Entra en el grupo al que pertenece (casi siempre: video) y vuelve a iniciar sesión.
mirror-busy = Otro programa usa la cámara. Ciérrala allí y la imagen llegará aquí.
mirror-gone = Se ha desconectado la cámara. Vuelve a conectarla.
mirror-failed = La cámara no da imagen. Vuelve a conectarla o elige otra.
name-step-is = Lo ve la gente a la que llamas. No hay cuenta: tu identidad es una clave que se acaba de crear y se queda en este dispositivo.
next = Siguiente
skip-all = Saltar todo
i-have-ahoy = Ya tengo ahoy
