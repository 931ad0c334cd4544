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
