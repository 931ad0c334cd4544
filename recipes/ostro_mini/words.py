"""Lists of real words: given and family names, cities, common nouns. `pools.py` divides them by the split."""

from __future__ import annotations

FIRST_NAMES = tuple(
    """Ada Alan Alice Amir Anna Arthur Ben Bella Boris Carla Carlos Cecil Clara Daniel Diana David Dora Edith Edward
    Elena Emil Emma Eric Eva Felix Fiona Fred Gina George Greta Hana Harry Helen Henry Hugo Ida Igor Ines
    Iris Isaac Ivan Jane Jin John Julia Karl Kate Kim Kurt Laura Leo Linda Lisa Lucas Lucy Mara Marco Maria Mark
    Martha Max Mia Mike Mina Nadia Nick Nina Noah Nora Olga Oscar Otto Paul Peter Petra Phil Priya Ralph Ravi Rita
    Robert Rosa Ruth Sam Sara Simon Sofia Ted Theo Thomas Tina Tom Uma Vera Victor Walter Wendy Yuna Zoe""".split()
)
LAST_NAMES = tuple(
    """Adams Baker Bauer Berg Brooks Carter Chen Clark Cole Costa Cruz Davis Diaz Dixon Evans Fischer
    Ford Foster Garcia Harper Hayes Ito Jones Kato Keller Klein Kruger Lang Lee
    Lewis Lopez Lund Martin Meyer Mills Moore Moreno Morris Nash Novak Owen Parker Perez Pot Quinn
    Reed Reyes Rivera Rossi Roth Ryan Sato Schmidt Scott Shaw Silva Smith Tanaka Taylor Torres Turner
    Vega Wagner Walker Ward Weber Wright Zimmer""".split()
)
KOREAN_FAMILY_NAMES = tuple("김 이 박 최 정 강 조 윤 장 임 한 오 서 신 권 황 안 송 류 홍".split())
CITIES_EN = tuple(
    """Amsterdam Athens Baghdad Bangkok Barcelona Beijing Berlin Bogota Boston Brussels Bucharest Budapest Busan Cairo
    Chicago Copenhagen Dakar Dallas Delhi Denver Dublin Geneva Glasgow Hamburg Hanoi Havana Helsinki Istanbul Jakarta
    Kyoto Lagos Lima Lisbon London Lyon Madrid Manila Melbourne Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples
    Oslo Ottawa Paris Porto Prague Quito Riga Rome Seattle Seoul Shanghai Singapore Sofia Stockholm Sydney Taipei Tokyo
    Toronto Tunis Turin Valencia Vienna Warsaw Zagreb Zurich""".split()
)
CITIES_KO = tuple(
    """서울 부산 대구 인천 광주 대전 울산 수원 제주 춘천 전주 청주 포항 강릉 여수 목포 경주 안동 파리 런던 베를린 로마 도쿄 오사카
    교토 베이징 상하이 뉴욕 보스턴 시카고 시애틀 토론토 시드니 방콕 하노이 마닐라 델리 모스크바 마드리드 리스본 프라하 오슬로 아테네 카이로
    더블린 밀라노 뮌헨 제네바 취리히 스톡홀름 헬싱키 바르샤바""".split()
)
NOUNS_EN = tuple(
    """apple bag bank basket bell bike bird boat book bottle box bread bridge brush bus button cake camera candle card
    chair cheese clock cloud coat coffee coin cup desk door dream egg engine fence field fish flag flower forest fork
    garden gate glass glove guitar hammer hat hill horse house island jacket jar key kite knife ladder lake lamp leaf
    lemon letter map market milk mirror moon mountain mouse museum music needle nest orange oven paint paper park pen
    pencil phone piano picture pillow plane plate pocket pond potato queen radio rain ring river road rock rope rose
    salt school sea shelf ship shirt shoe shop snow soap song soup spoon stamp star station stone storm street sugar
    sun table tea tent ticket tiger tower toy train tree truck umbrella village wall watch water wheel wind window
    winter wood yard""".split()
)
NOUNS_KO = tuple(
    """가방 가위 강 거울 건물 고양이 공원 과자 구두 구름 기차 길 꽃 나무 냉장고 눈 다리 달 도서관 돌 라디오 램프 마을 모자 물 바다 바람
    바지 배 버스 별 병원 비 비누 빵 사과 사전 산 상자 새 선물 섬 소금 수첩 숲 시계 시장 신문 안경 약국 양말 연필 열쇠 영화 옷 우산 우유 은행
    의자 자동차 장갑 접시 정원 종이 지도 집 창문 책 책상 칼 커피 컵 탑 편지 포도 피아노 하늘 학교 햇빛 호수""".split()
)

COMMON = """
ability above accept account across action active actual address advance adventure advice afford afternoon against agency agreement airport alarm
album almost alone already although always amazing amount analysis ancient animal announce annual answer anxious apartment apparent appear apple
application appoint approach april architect area argument arrange arrival article artist assistant associate assume attack attempt attention attic
attract audience author authority autumn available average avoid award aware awful background bakery balance banana bandage bargain barrel basic
basket bathroom battery battle beach beautiful because bedroom before begin behaviour behind belief belong beneath benefit beside between beyond
bicycle biology birthday biscuit blanket blossom blue board border borrow bottle boundary branch brave bread breakfast breath bridge brief bright
bring broken brother brought brown budget build building burden business butcher butter button cabin cabinet calendar camera campaign candle capital
captain capture carbon career careful carpet carriage carry castle casual category caught cause ceiling celebrate celsius cement central century
ceremony certain chairman challenge champion chance change channel chapter character charge charity cheap cheese chemical chicken chief childhood
chimney chocolate choice choose church circle circumstance citizen civil claim classical clean clear clever climate climb clinic clock close clothes
cloud coast coffee collapse colleague collect college colour column combine comfort command comment commercial commission committee common communicate
community company compare competition complain complete complex computer concept concern concert conclude condition conduct conference confidence
confirm conflict congress connect conscious consider constant construct consumer contact contain content contest context continue contract contrast
contribute control convince cooking copper corner correct cottage cotton council counter country couple courage course cousin cover create creature
credit crew criminal crisis criticism crowd crucial culture cupboard curious currency current curtain custom customer damage dancer danger daughter
debate decade december decide decision declare decline defence definite degree delay delicate delicious deliver demand democracy department depend
depth describe description desert deserve design desire desperate destination destroy detail detect determine develop device dictionary difference
difficult digital dinner diploma direction director disappear disaster discipline discover discuss disease dishwasher dismiss display distance
distinct district divide division doctor document dolphin domestic double doubt dozen dragon drama drawer drawing dream dress drink drive during eager
early earth easily eastern economy edition education effect efficient effort eight elderly electric elegant element elephant eleven embassy emerge
emergency emotion emperor emphasis employ empty encourage enemy energy engine engineer enjoy enormous enough ensure enter entertain entire entrance
envelope environment episode equal equipment error escape especially essay establish estimate ethical european evening event eventually evidence
exactly examine example excellent except exchange excitement exercise exhibition exist expand expect expensive experience experiment expert explain
explore explosion export express extend extra extreme fabric factor factory fahrenheit failure fairly faith fake familiar family famous fantastic farmer
fashion father fault favour feature february federal feeling female fence festival fever fiction field fifteen fight figure final finance finger
finish fireplace fisherman fitness flavour flexible flight floor flower fluent focus follow football foreign forest forever forget formal fortune
forward foundation fountain frame freedom freeze frequent fresh friday friend frighten frozen fruit function fundamental funeral funny furniture
further future gallery garage garden garlic gather general generation gentle genuine geography gesture giant glass global glory golden government
grade gradual graduate grammar grandmother grass grateful gravity great green grocery ground growth guarantee guard guess guest guide guilty guitar
habit hammer handle happen happy harbour hardly harmless harmony harvest headache headquarters health heart heaven heavy height helicopter helpful
heritage hidden highway history holiday honest honey horizon horror hospital hotel hour household however huge human humble hundred hungry hunter
hurry husband ice idea ideal identify ignore illness illustrate image imagine immediate impact important impossible impress improve incident include
income increase independent indicate individual industry infant inflation influence inform information ingredient initial injury innocent inquiry
insect inside insist inspire install instance instead institute instruction instrument insurance intelligent intend interest internal international
interview introduce invent invest invitation island jacket january jealous jewel journal journey judge juice july jump june jungle junior jury justice
keyboard kidney kilometre kingdom kitchen knife knight knock knowledge label labour ladder lamp landscape language large laugh launch lawyer layer
leader learn leather lecture legal legend lemon length leopard lesson letter level liberty library licence light limit liquid listen literature little
living local location lonely lovely loyal luggage lunch luxury machine magazine magic magnet maintain major manage manner manufacture marble margin
marine market marriage marvellous master material mathematics matter maximum meadow meaning measure mechanic medal media medicine medium meeting
melody member memory mention menu merchant mercury message metal method metre middle midnight military million mineral minimum minister minority
minute miracle mirror missing mission mistake mixture mobile model moderate modern modest moment monday money monitor monkey month monument moral
morning mosquito mother motion motor mountain mouse movement multiple murder muscle museum music mustard mystery naked narrow nation natural navy
nearly necessary necklace needle negative neighbour nephew nervous network neutral never newspaper night nineteen nobody noise normal northern
notebook nothing notice november nuclear nuisance number nurse object objective obligation observe obtain obvious occasion occupy ocean october office
often olive onion opening opera operation opinion opponent opportunity oppose option orange orchestra order ordinary organ organize origin original
orphan outcome outdoor outside oven overcome owner oxygen package painter palace pancake panic paper parade paragraph parallel parameter parcel parent
parliament parrot particle particular partner passage passenger passion password patient pattern pause pavement payment peace peasant pencil penguin
people pepper percent perfect perform perhaps period permanent permission person perspective phenomenon philosophy photograph photosynthesis phrase
physical piano picture pilgrim pillow pilot pioneer planet plant plastic platform pleasant please pleasure plenty pocket poem poison police policy
polite political pollution popular population portrait position positive possess possible potato potential pottery poverty powder power practice
prayer precious precise predict prefer prejudice premium prepare presence present president pressure pretend pretty prevent previous price priest
primary prince principle print priority prison private prize probable problem procedure process produce professor profile profit programming progress
project promise promote proof proper property proposal protect protest proud provide province psychology public publish pudding punish pupil purchase
purple purpose puzzle qualify quality quantity quarter queen question queue quick quiet quite quote rabbit racing radical radio railway rainbow random
rapid rare rather ready realize reason recall receive recent recipe recipient recommend record recover reduce reference reflect refuse region register
regret regular reject relation relative release relevant reliable religion remain remark remember remind remote remove repair repeat replace reply
report represent reputation request rescue research reserve resident resist resource respect respond responsible restaurant result retire return
reveal revenue reverse review revolution reward rhythm ribbon rice right river rocket romantic rough round route routine royal rubber rubbish ruin
rural sacred sacrifice saddle safety sailor salad salary salmon sample sandwich satellite satisfy saturday sauce saucer sausage scale scandal scene
schedule scheme scholar school science scissors score scratch scream screen script sculpture search season second secret secretary section security
segment select senior sense sensitive sentence sentiment separate september sequence series serious servant service session settle seven several
severe shadow shallow shape share sharp shelter sheriff shield shine shirt shock shoulder shower shrimp shuttle sibling sickness signal signature
significant silence silver similar simple sincere single sister situation sixteen sketch skill sleep slice slight smart smile smooth soccer social
society soldier solid solution somebody sometimes somewhere sorrow soup source southern space spare speak special species specific speech spelling
spider spirit splendid sponsor spoon spread spring square squirrel stable stadium staff stage standard station statue status steady steam steel
stomach stone storage storm straight strange strategy strawberry stream street strength stress stretch strike string stroke strong structure struggle
student studio study style subject substance suburb succeed success sudden suffer sugar suggest suitable sulphur summer sunday sunset supper supply
support suppose surface surgeon surprise surround survey survive suspect swallow sweater sweet swimming switch sword symbol sympathy symptom system
table tablet tackle talent target taste taxi teacher technical technique technology teenager telephone television temperature temple temporary
tendency tennis tension terrible territory terror theatre theme theory therapy therefore thick thief thing thirsty thirteen thorough thought thousand
thread threat throat through throw thumb thunder thursday ticket tiger timber tissue title tobacco today together toilet tomato tomorrow tongue
tonight tooth topic tortoise touch tourist toward tower traffic tragedy trailer training transfer transform translate transport travel treasure
treatment treaty triangle tribe trouble trousers truth tuesday tunnel turkey twelve twenty twist typical ugly umbrella uncle undergo understand
uniform union unique universe university unless until update upper upset upstairs urban urgent useful usual vacation valley valuable vampire vanish
various vegetable vehicle velvet verdict version vertical vessel veteran victim victory video village violence violin visible vision visitor vital
vitamin vocabulary voice volcano volume volunteer voyage vulnerable waiter wallet wander warehouse warm warning water weakness wealth weapon weather
website wedding wednesday weekend weight welcome western whale whatever wheel whenever whether whisper whistle white whole wicked widow wilderness
window winter wisdom witness wizard wolf wonder wooden workshop world worry worth wound wrap wrist write wrong yard yellow yesterday young youth zebra
zero
""".split()
"""Words of English, of whose pieces made-up ones are put together."""
